"""The figure of samples: a row of images for each arm or step."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from reports import style

NAME_LENGTH = 20  # letters of a class's name, at most
CELL, GAP = 0.46, 0.05  # inches of an image, and between images
EDGE, TITLE = 0.05, 0.2  # inches that texts keep from the edge of the figure, and of its title
SLANTED: dict[str, Any] = {"rotation": 40, "ha": "left", "rotation_mode": "anchor"}


def sample_rows(samples: Mapping[str, NDArray[np.uint8]], classes: Sequence[str], title: str) -> Figure:
    """Return a named row of images (N, H, W, C) each; images in a column share their noise, and their class if there
    are `classes`, the names of N."""
    count = len(next(iter(samples.values())))
    figure, axes = style.subplots(len(samples), count, squeeze=False)
    for row, (name, images) in zip(axes, samples.items(), strict=True):
        for axis, image in zip(row, images, strict=True):
            axis.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest", aspect="auto")
            axis.set(xticks=[], yticks=[])
        shown = style.drawable(name)
        row[0].set_ylabel(shown, rotation=0, ha="right", va="center", fontsize=8, fontfamily=style.families())
    if classes:
        names = [_shortened(style.drawable(name)) for name in classes]
        turned = SLANTED if max(map(len, names)) > 4 else {}
        for axis, name in zip(axes[0], names, strict=True):
            axis.set_title(name, fontsize=8, pad=2, parse_math=False, fontfamily=style.families(), **turned)
    heading = style.drawable(title)
    figure.suptitle(heading, fontsize=8, fontfamily=style.families())
    _fit(figure, axes)
    return figure


def _shortened(name: str) -> str:
    return name if len(name) <= NAME_LENGTH else f"{name[: NAME_LENGTH - 3].rstrip()}..."


def _fit(figure: Figure, axes: NDArray[Any]) -> None:
    """Make all axes as large as a cell, and the figure so large that it holds them and all texts."""
    figure.draw_without_rendering()
    title = figure.texts[0]
    names = [(axis.title.get_window_extent(), axis.bbox) for axis in axes[0] if axis.get_title()]
    labels = [axis.bbox.x0 - axis.yaxis.label.get_window_extent().x0 for axis in axes[:, 0]]
    above = max((name.y1 - image.y1 for name, image in names), default=0.0) / figure.dpi + EDGE
    left = max(labels) / figure.dpi + EDGE
    rows, columns = (count * (CELL + GAP) - GAP for count in axes.shape)
    ends = [left + k * (CELL + GAP) + CELL + (name.x1 - image.x1) / figure.dpi for k, (name, image) in enumerate(names)]
    width = max([left + columns, *ends, title.get_window_extent().width / figure.dpi]) + EDGE
    height = TITLE + above + rows + EDGE
    figure.set_size_inches(width, height)
    figure.subplots_adjust(
        left=left / width,
        right=(left + columns) / width,
        bottom=EDGE / height,
        top=(EDGE + rows) / height,
        wspace=GAP / CELL,
        hspace=GAP / CELL,
    )
    title.set_y(1 - EDGE / height)
