"""Loaded data sets: the images of a training step, and the reference set that samples are compared with."""

import hashlib
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from diffussm.rng import permutation


class Images(NamedTuple):
    """Pixels, 0 .. 255, and labels, 0 .. classes - 1 (0 if there are no classes)."""

    pixels: NDArray[np.uint8]  # (N, C, H, W)
    labels: NDArray[np.int64]  # (N,)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.pixels.tobytes() + self.labels.tobytes()).hexdigest()


class TrainingData(Protocol):
    def batch(self, seed: int, step: int, size: int, start: int = 0, count: int | None = None) -> Images:
        """Return the `size` images of a step, or `count` of them from `start` on. The result depends on the arguments
        alone."""


class Shuffled:
    """A finite set, visited once per epoch, in an order that depends on the epoch and the seed."""

    def __init__(self, images: Images):
        self.images = images
        self._order: tuple[tuple[int, int], NDArray[np.int64]] = ((-1, -1), np.empty(0, dtype=np.int64))

    def batch(self, seed: int, step: int, size: int, start: int = 0, count: int | None = None) -> Images:
        chosen = self.chosen(seed, step * size + start, size - start if count is None else count)
        return Images(self.images.pixels[chosen], self.images.labels[chosen])

    def chosen(self, seed: int, start: int, count: int) -> NDArray[np.int64]:
        """Return the indices of the images with global sample indices start .. start + count - 1; each epoch is one
        permutation."""
        images = len(self.images.labels)
        parts = []
        while count:
            epoch, position = divmod(start, images)
            if self._order[0] != (seed, epoch):
                self._order = (seed, epoch), permutation(seed, epoch, images)
            parts.append(self._order[1][position : position + count])
            start, count = start + len(parts[-1]), count - len(parts[-1])
        return np.concatenate(parts)
