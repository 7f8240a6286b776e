"""What is sampled from: a run's milestone, or the model in a folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from diffussm.config import Config
from diffussm.diffusion.sampling import Network
from diffussm.errors import UserError
from diffussm.metrics.evaluation.folder_config import folder_config
from diffussm.metrics.pictures.names import class_names, label_of
from diffussm.models.pretrained import is_model_folder, load_pretrained
from diffussm.models.trained import load_network, requested_config, select_milestone
from diffussm.run.execution import resolve_execution
from diffussm.store.hashes import file_sha256
from diffussm.store.rundir import RunDir, is_run_folder


class SampledModel(Protocol):
    """A model with trained weights, and how it is sampled from."""

    config: Config
    name: str  # in messages
    stem: str  # in the names of its sheets
    folder: Path  # of the model
    weights: Path
    names: Mapping[int, str]  # of classes, by their labels
    labels: Sequence[int | None]  # the classes that are asked for; None: any

    @property
    def weights_sha256(self) -> str:
        """The SHA-256 of the file of weights."""

    def load(self, device: str, as_evaluated: bool) -> Network:
        """Return the network; `as_evaluated`, with the backend and threads of the run, so that the bits are those of
        its evaluation."""


class RunModel:
    """The weights that a run kept at a step (None: the last). UserError for a step that it did not keep."""

    def __init__(
        self,
        run: RunDir,
        overrides: Mapping[str, Any],
        step: int | None,
        classes: Sequence[str] = (),
        data: Path | None = None,
    ):
        self.config = _with_data(requested_config(run, overrides), data)
        self.names: Mapping[int, str] = class_names(self.config, run)
        self.labels: Sequence[int | None] = _labels(classes, self.config, self.names)
        self._run, self._kind = run, self.config.evaluation.weights
        self._step = select_milestone(run, self._kind, step)
        self.name, self.stem, self.folder = f"{run.run_id}, step {self._step}", f"-step-{self._step}", run.path
        self.weights = run.weights(self._step, self._kind)

    @property
    def weights_sha256(self) -> str:
        return file_sha256(self.weights)

    def load(self, device: str, as_evaluated: bool) -> Network:
        backend: str = self.config.training.backend
        if as_evaluated:
            backend = resolve_execution(self._run, self.config, device=device).backend
        return load_network(self._run, self.config, self._kind, self._step, backend, device)


class FolderModel:
    """The model in a folder that `from_pretrained` reads."""

    def __init__(
        self, folder: Path, overrides: Mapping[str, Any], classes: Sequence[str] = (), data: Path | None = None
    ):
        self.config = _with_data(folder_config(folder, overrides), data)
        self.names: Mapping[int, str] = class_names(self.config)
        self.labels: Sequence[int | None] = _labels(classes, self.config, self.names)
        self._loaded = load_pretrained(folder)
        self.name, self.stem, self.folder, self.weights = str(folder), "", folder, self._loaded.weights
        self.weights_sha256 = self._loaded.sha256

    def load(self, device: str, as_evaluated: bool) -> Network:  # noqa: ARG002
        return self._loaded.model.to(device)


def sampled_model(
    path: Path,
    overrides: Mapping[str, Any],
    step: int | None,
    classes: Sequence[str] = (),
    data: Path | None = None,
) -> SampledModel:
    """Return the model of a run folder or of a model's folder, with fields of the evaluation changed by `overrides`.

    `classes` are those that are asked for, by number or name; `data` is the folder of the data set, if it is not where
    the config says. Raises UserError for a class that the model does not have.
    """
    if path.is_dir() and not is_run_folder(path) and is_model_folder(path):
        if step is not None:
            raise UserError(f"--step {step}: {path} is the folder of a model, and has no steps; leave it out")
        return FolderModel(path, overrides, classes, data)
    if path.is_file():
        raise UserError(f"{path}: is a file; make a folder of it with `diffussm convert {path} FOLDER`")
    return RunModel(RunDir(path), overrides, step, classes, data)


def _with_data(config: Config, data: Path | None) -> Config:
    """Return the config with that folder as the one of its data set."""
    if data is None:
        return config
    return config.model_copy(update={"data": config.data.model_copy(update={"root": str(data.absolute())})})


def _labels(classes: Sequence[str], config: Config, names: Mapping[int, str]) -> list[int | None]:
    return [label_of(text, config, names) for text in classes] or [None]
