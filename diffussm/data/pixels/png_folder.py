"""A folder of PNG files as a set of images."""

import functools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffussm.data.pixels.base import Shape, pixels_sha256, spans
from diffussm.data.pixels.decode import decoded, read_image
from diffussm.data.pixels.listing import Listing
from diffussm.errors import UserError


class FolderPixels:
    """The PNG files of a folder, without its subfolders, in natural sort order (2.png before 10.png).

    Grey gives one channel, RGB and palettes three; all must have the shape of the first. UserError names a file that
    is damaged, 16 bits deep, not opaque or of another shape, or a folder that is missing, without PNG, or with JPEG.
    """

    def __init__(self, path: Path):
        if not path.is_dir():
            raise UserError(f"{path}: no such folder")
        names = sorted(os.listdir(path), key=_natural)
        if any(name.lower().endswith((".jpg", ".jpeg")) for name in names if not name.startswith(".")):
            raise UserError(f"{path}: holds JPEG files; samples never pass through JPEG, save them as PNG or .npz")
        self.listing = Listing((".png",))
        for name in names:
            self.listing.add(path, name, name)
        self.files = [path / name for name in self.listing.files]
        if not self.files:
            raise UserError(f"{path}: holds no PNG files (subfolders are not searched); {self.listing}")
        self.count = len(self.files)
        self.shape: Shape = _png(self.files[0]).shape

    def batches(self, size: int, start: int = 0, stop: int | None = None) -> Iterator[NDArray[np.uint8]]:
        yield from decoded(self.files, self._image, spans(self.count, size, start, stop))

    @functools.cached_property
    def sha256(self) -> str:
        return pixels_sha256(self)

    def _image(self, file: Path) -> NDArray[np.uint8]:
        image = _png(file)
        if image.shape != self.shape:
            first = self.files[0].name
            raise UserError(
                f"{file}: has shape {image.shape}, but {first} has {self.shape} (C, H, W); all must have one shape"
            )
        return image


def _natural(name: str) -> tuple[Any, ...]:
    parts: list[Any] = re.split("([0-9]+)", name)
    parts[1::2] = map(int, parts[1::2])
    return (parts, name)


def _png(file: Path) -> NDArray[np.uint8]:
    """Return the image, (C, H, W) with C 1 or 3."""
    image = read_image(file, ["PNG"])
    grey = image.mode in ("1", "L", "LA")
    if image.has_transparency_data:
        opaque = image.convert("RGBA")
        if np.asarray(opaque)[..., 3].min() < 255:
            raise UserError(f"{file}: has transparent pixels; remove the alpha channel, or make it 255 everywhere")
        image = opaque
    return np.atleast_3d(np.asarray(image.convert("L" if grey else "RGB"))).transpose(2, 0, 1)
