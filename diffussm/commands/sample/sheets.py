"""Sheets of samples of a model, one per class, as in Figures 7 to 14 of the paper."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diffussm.commands.sample.model import SampledModel
from diffussm.distributed.group import select_device
from diffussm.errors import UserError, naming_weights
from diffussm.metrics.pictures.names import names_of
from diffussm.metrics.pictures.nearest import nearest_images
from diffussm.metrics.pictures.sheet import sheet
from diffussm.metrics.sampling import generate
from diffussm.progress import Progress
from diffussm.store.writing import write_atomically


def write_sheets(
    model: SampledModel, rows: int, columns: int, out: Path | None = None, nearest: bool = False
) -> list[Path]:
    """Write a PNG of rows x columns samples for each class that is asked for, or one of all; return the paths.

    Sample i of every sheet starts from the same noise. With `nearest`, the nearest training images stand below the
    samples. `out` is the folder (default: sheets, in the model's). Raises UserError if the training set is needed and
    missing.
    """
    config, device = model.config, select_device()
    network = model.load(device, as_evaluated=False)
    folder = out or model.folder / "sheets"
    paths = []
    for label in model.labels:
        with naming_weights(model.weights, UserError):
            samples = generate(config, network, rows * columns, device, repeated(label, rows * columns))
        name, e = "all" if label is None else f"class-{label}", config.evaluation
        name += "-balanced" if label is None and e.labels == "balanced" else ""
        guided = f"{e.guidance:g}" + (f"-of-{e.guidance_channels}-channels" if e.guidance_channels else "")
        found = nearest_images(samples.pixels, config, device, _report(name)) if nearest else None
        ending = "-nearest" if found else ""
        paths.append(folder / f"{name}{model.stem}-{e.sampler}-{e.sampler_steps}-guidance-{guided}{ending}.png")
        png = io.BytesIO()
        sheet(samples.pixels, columns, names_of(config, samples.labels, model.names), found).save(png, "PNG")
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
