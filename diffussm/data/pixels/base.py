"""Sets of uint8 images that need not fit into memory: their interface, and its implementation for an array."""

import functools
import hashlib
from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Shape = tuple[int, int, int]  # (C, H, W)


class Pixels(Protocol):
    """A set of images in order, read in pieces."""

    count: int
    shape: Shape  # of every image

    def batches(self, size: int, start: int = 0, stop: int | None = None) -> Iterator[NDArray[np.uint8]]:
        """Yield images start .. stop - 1 in order, (<= size, C, H, W) each; UserError names a file that cannot be
        read."""

    @property
    def sha256(self) -> str:
        """Return the SHA-256 of the file (.npz) or of all pixels (N, C, H, W) in order."""


class ArrayPixels:
    """An array (N, C, H, W) in memory."""

    def __init__(self, array: NDArray[np.uint8]):
        if array.dtype != np.uint8 or array.ndim != 4:
            raise ValueError(f"{array.dtype} {array.shape}: needed is uint8 (N, C, H, W)")
        self.array = array
        self.count = len(array)
        self.shape: Shape = array.shape[1:]

    def batches(self, size: int, start: int = 0, stop: int | None = None) -> Iterator[NDArray[np.uint8]]:
        for first, last in spans(self.count, size, start, stop):
            yield self.array[first:last]

    @functools.cached_property
    def sha256(self) -> str:
        return pixels_sha256(self)


def pixels_sha256(pixels: Pixels) -> str:
    """Return the SHA-256 of all pixels (N, C, H, W) in order."""
    digest = hashlib.sha256()
    for batch in pixels.batches(64):
        digest.update(np.ascontiguousarray(batch).data)
    return digest.hexdigest()


def spans(count: int, size: int, start: int, stop: int | None) -> list[tuple[int, int]]:
    """Return (first, last + 1) of each batch; ValueError if size < 1, or start or stop is outside 0 .. count."""
    stop = count if stop is None else stop
    if size < 1 or not 0 <= start <= stop <= count:
        raise ValueError(f"batches of {size} from {start} to {stop}: there are {count} images")
    return [(first, min(first + size, stop)) for first in range(start, stop, size)]
