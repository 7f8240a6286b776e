"""Sheets of images for viewing."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from einops import rearrange
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from diffussm.host.fonts import Drawable
from diffussm.metrics.pictures.text import LETTERS, fitted, length, wrapped

LEAST_WIDTH = 512  # pixels
MARGIN = 2  # beside a text
MOST_FOR_NAME = 120  # width to which a column is enlarged so that names fit
BAND = LETTERS + 8  # height of a line of text


class Nearest(NamedTuple):
    """The nearest image of the training set for each sample, and by what it is the nearest."""

    pixels: NDArray[np.uint8]  # (N, C, H, W)
    by: str


def sheet(
    pixels: NDArray[np.uint8], columns: int = 8, names: Sequence[str] = (), nearest: Nearest | None = None
) -> Image.Image:
    """Return images (N, C, H, W) in rows of `columns`, separated by one white pixel and enlarged; the last row is
    filled up with white.

    Below each row stand the nearest training images, if they are given, and below these the `names` of the images'
    classes, or once below all if there is one class.
    """
    rows, below = _rows(pixels, columns), _rows(nearest.pixels, columns) if nearest else []
    is_of_one_class = len(set(names)) == 1
    scale = max(1, LEAST_WIDTH // rows[0].width)
    if names and not is_of_one_class:
        column = min(max(length(name) for name in names) + 2 * MARGIN, MOST_FOR_NAME)
        scale = max(scale, -(-column * columns // rows[0].width))
    width = rows[0].width * scale
    strips: list[Image.Image] = []
    for number, row in enumerate(rows):
        strips.append(_enlarged(row, scale))
        if below:
            strips.append(_enlarged(below[number], scale))
        if names and not is_of_one_class:
            strips.append(_line_of_names(names[number * columns : (number + 1) * columns], width, columns))
        elif below:
            strips.append(Image.new("RGB", (width, BAND // 2), "white"))
    notes = [f"Class: {names[0]}"] if is_of_one_class else []
    if nearest:
        lines = "Below each row of samples stand"
        classes = ", and below those the samples' classes" if names and not is_of_one_class else ""
        notes.append(f"{lines} their nearest images in the training set, by {nearest.by}{classes}")
    strips += [_line(line, width) for note in notes for line in wrapped(note, width - 2 * MARGIN)]
    whole = Image.new("RGB", (width, sum(strip.height for strip in strips)), "white")
    top = 0
    for strip in strips:
        whole.paste(strip, (0, top))
        top += strip.height
    return whole


def _rows(pixels: NDArray[np.uint8], columns: int) -> list[Image.Image]:
    """Return the rows of images, one white pixel right of each and below."""
    white = np.full((-len(pixels) % columns, *pixels.shape[1:]), 255, dtype=np.uint8)
    framed = np.pad(np.concatenate([pixels, white]), ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=255)
    rows = rearrange(framed, "(r k) c h w -> r h (k w) c", k=columns)
    rows = np.repeat(rows, 3, axis=-1) if rows.shape[-1] == 1 else rows
    return [Image.fromarray(row) for row in rows]


def _enlarged(image: Image.Image, scale: int) -> Image.Image:
    return image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)


def _line_of_names(names: Sequence[str], width: int, columns: int) -> Image.Image:
    """Return a line with a name in the middle of each column."""
    image = Image.new("RGB", (width, BAND), "white")
    draw, cell = ImageDraw.Draw(image), width // columns
    for column, name in enumerate(names):
        shown = fitted(name, cell - 2 * MARGIN)
        draw.text((column * cell + cell // 2, 0), shown.text, "black", shown.font(LETTERS), anchor="ma")
    return image


def _line(shown: Drawable, width: int) -> Image.Image:
    image = Image.new("RGB", (width, BAND), "white")
    ImageDraw.Draw(image).text((MARGIN, 2), shown.text, "black", shown.font(LETTERS), anchor="la")
    return image
