"""A picture of what a prepared data set holds: some images of each class, under its name."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from diffussm.data.images import Images
from diffussm.data.pixels.base import Shape
from diffussm.data.prepared.manifest import Manifest
from diffussm.host.fonts import drawable
from diffussm.progress import Progress

COLUMNS, MOST_ROWS = 8, 16
LEAST_SIDE, MOST_SIDE = 64, 128  # of an image in the picture
_FONT_SIZE, _MARGIN, _GAP = 14, 8, 2


class Pictures(Protocol):
    """Images of a prepared data set, by index."""

    manifest: Manifest
    labels: NDArray[np.int64]
    count: int
    shape: Shape

    def take(self, indices: NDArray[np.int64]) -> Images:
        """Return the images of these indices, in this order."""


class Row(NamedTuple):
    """Images that stand side by side, and the line above them."""

    caption: str
    images: NDArray[np.int64]


def overview(data: Pictures, progress: str = "") -> Image.Image:
    """Return the picture: a row of images for each class, or for each of some classes, evenly spaced; without classes
    rows of images of the whole set. They are evenly spaced in the set. With `progress`, the number of these is
    shown."""
    classes = data.manifest.classes
    rows = _rows_of_classes(data.labels, classes) if classes else _rows(data.count)
    side, caption = _side(data.shape[1]), _FONT_SIZE + 6 if classes else 0
    height = caption + side + (_MARGIN if classes else _GAP)
    page = Image.new("RGB", (2 * _MARGIN + COLUMNS * (side + _GAP), 2 * _MARGIN + len(rows) * height), "white")
    draw = ImageDraw.Draw(page)
    report, done = Progress(progress, sum(len(row.images) for row in rows) if progress else 0), 0
    report(done)
    for number, row in enumerate(rows):
        top = _MARGIN + number * height
        shown = drawable(row.caption)
        draw.text((_MARGIN, top), shown.text, "black", shown.font(_FONT_SIZE))
        for column, pixels in enumerate(data.take(row.images).pixels):
            page.paste(_tile(pixels, side), (_MARGIN + column * (side + _GAP), top + caption))
        done += len(row.images)
        report(done)
    return page


def _rows_of_classes(labels: NDArray[np.int64], classes: Sequence[str]) -> list[Row]:
    rows = []
    for label in _spaced(len(classes), MOST_ROWS):
        images = np.flatnonzero(labels == label)
        caption = f"{label}  {classes[label]}  ({len(images):,})"
        rows.append(Row(caption, images[_spaced(len(images), COLUMNS)]))
    return rows


def _rows(count: int) -> list[Row]:
    images = _spaced(count, COLUMNS * COLUMNS)
    return [Row("", images[start : start + COLUMNS]) for start in range(0, len(images), COLUMNS)]


def _spaced(count: int, most: int) -> NDArray[np.int64]:
    """Return at most `most` of 0 .. count - 1, evenly spaced."""
    shown = min(count, most)
    return np.arange(shown) * count // max(shown, 1)


def _side(image_size: int) -> int:
    """Return the side at which images are shown: a multiple of theirs, of small ones at least `LEAST_SIDE`."""
    return min(image_size * -(-LEAST_SIDE // image_size), MOST_SIDE)


def _tile(pixels: NDArray[np.uint8], side: int) -> Image.Image:
    image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)).squeeze())
    smaller = side < image.width
    return image.resize((side, side), Image.Resampling.BOX if smaller else Image.Resampling.NEAREST)
