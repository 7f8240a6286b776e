"""What is sampled from: a run's milestone, or the model in a folder."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from diffussm.config import Config
from diffussm.diffusion.sampling import Network
from diffussm.errors import UserError
from diffussm.metrics.evaluation.folder_config import folder_config
from diffussm.models.pretrained import is_model_folder, load_pretrained
from diffussm.models.trained import load_network, requested_config, select_milestone
from diffussm.run.execution import resolve_execution
from diffussm.store.hashes import file_sha256
from diffussm.store.rundir import RunDir, is_run_folder

Labels = Iterable[int | None]


class SampledModel(Protocol):
    """A model with trained weights, and how it is sampled from."""

    config: Config
    name: str  # in messages
    stem: str  # in the names of its sheets
    folder: Path  # of the model
    weights: Path

    @property
    def weights_sha256(self) -> str:
        """The SHA-256 of the file of weights."""

    def load(self, device: str, as_evaluated: bool) -> Network:
        """Return the network; `as_evaluated`, with the backend and threads of the run, so that the bits are those of
        its evaluation."""


class RunModel:
    """The weights that a run kept at a step (None: the last). UserError for a step that it did not keep."""

    def __init__(self, run: RunDir, overrides: Mapping[str, Any], step: int | None, labels: Labels = ()):
        self.config = requested_config(run, overrides)
        _check_labels(self.config, labels)
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

    def __init__(self, folder: Path, overrides: Mapping[str, Any], labels: Labels = ()):
        self.config = folder_config(folder, overrides)
        _check_labels(self.config, labels)
        self._loaded = load_pretrained(folder)
        self.name, self.stem, self.folder, self.weights = str(folder), "", folder, self._loaded.weights
        self.weights_sha256 = self._loaded.sha256

    def load(self, device: str, as_evaluated: bool) -> Network:  # noqa: ARG002
        return self._loaded.model.to(device)


def sampled_model(path: Path, overrides: Mapping[str, Any], step: int | None, labels: Labels = ()) -> SampledModel:
    """Return the model of a run folder or of a model's folder, with fields of the evaluation changed by `overrides`.

    Raises UserError for `labels` of classes that it does not have (None: no class is asked for).
    """
    if path.is_dir() and not is_run_folder(path) and is_model_folder(path):
        if step is not None:
            raise UserError(f"--step {step}: {path} is the folder of a model, and has no steps; leave it out")
        return FolderModel(path, overrides, labels)
    if path.is_file():
        raise UserError(f"{path}: is a file; make a folder of it with `diffussm convert {path} FOLDER`")
    return RunModel(RunDir(path), overrides, step, labels)


def _check_labels(config: Config, labels: Labels) -> None:
    """Raise UserError for a class that the model does not have."""
    for label in labels:
        if label is not None and label >= config.model.classes:
            allowed = (
                f"must be between 0 and {config.model.classes - 1}, the classes of this model"
                if config.model.classes
                else "this model is unconditional; leave out --classes"
            )
            raise UserError(f"--classes {label}: {allowed}")
