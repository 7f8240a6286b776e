"""Sheets of samples from a run's kept weights, one per class, as in Figures 7 to 14 of the paper."""

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffussm.config import Config
from diffussm.distributed.group import select_device
from diffussm.errors import UserError, naming_weights
from diffussm.metrics.pictures.names import names_of
from diffussm.metrics.pictures.nearest import nearest_images
from diffussm.metrics.pictures.sheet import sheet
from diffussm.metrics.sampling import generate
from diffussm.models.trained import load_network, requested_config, select_milestone
from diffussm.progress import Progress
from diffussm.store.rundir import RunDir
from diffussm.store.writing import write_atomically


def write_sheets(
    run: RunDir,
    labels: Sequence[int | None],
    rows: int,
    columns: int,
    overrides: Mapping[str, Any],
    step: int | None = None,
    out: Path | None = None,
    nearest: bool = False,
) -> list[Path]:
    """Write a PNG of rows x columns samples for each label (None: of all classes); return the paths.

    `overrides` replace fields of the evaluation in the run's latest request. Sample i of every sheet starts from the
    same noise. `step` is a milestone (default: the last). With `nearest`, the nearest training images stand below
    the samples. Raises UserError for a class or step that the run lacks, and where its training set is needed and not
    there.
    """
    config = requested_config(run, overrides)
    for label in labels:
        check_label(config, label)
    step = select_milestone(run, config.evaluation.weights, step)
    network = load_network(run, config, config.evaluation.weights, step, config.training.backend)
    folder = out or run.path / "sheets"
    paths = []
    for label in labels:
        with naming_weights(run.weights(step, config.evaluation.weights), UserError):
            samples = generate(config, network, rows * columns, labels=repeated(label, rows * columns))
        name, e = "all" if label is None else f"class-{label}", config.evaluation
        name += "-balanced" if label is None and e.labels == "balanced" else ""
        guided = f"{e.guidance:g}" + (f"-of-{e.guidance_channels}-channels" if e.guidance_channels else "")
        found = nearest_images(samples.pixels, config, select_device(), _report(name)) if nearest else None
        ending = "-nearest" if found else ""
        paths.append(folder / f"{name}-step-{step}-{e.sampler}-{e.sampler_steps}-guidance-{guided}{ending}.png")
        png = io.BytesIO()
        sheet(samples.pixels, columns, names_of(config, samples.labels), found).save(png, "PNG")
        write_atomically(paths[-1], png.getvalue())
    return paths


def _report(name: str) -> Callable[[int, int], object]:
    """Return what shows how many images of the training set have been compared."""
    shown: list[Progress] = []

    def report(done: int, total: int) -> None:
        if not shown:
            shown.append(Progress(f"{name}: training images compared", total))
        shown[0](done)

    return report


def repeated(label: int | None, count: int) -> NDArray[np.int64] | None:
    """Return the label for `count` samples; None if they are to be drawn."""
    return None if label is None else np.full(count, label)


def check_label(config: Config, label: int | None) -> None:
    """Raise UserError for a class that the run's model does not have."""
    if label is not None and label >= config.model.classes:
        allowed = (
            f"must be between 0 and {config.model.classes - 1}, the classes of this run"
            if config.model.classes
            else "this run's model is unconditional; leave out --classes"
        )
        raise UserError(f"--classes {label}: {allowed}")
