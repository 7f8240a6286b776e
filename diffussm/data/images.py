"""The images of a training step: shuffled by (seed, epoch), and flipped by (seed, step) where that is wanted."""

import hashlib
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from diffussm.rng import Stream, permutation, uniform


class Images(NamedTuple):
    """Pixels, 0 .. 255, and labels, 0 .. classes - 1 (0 if there are no classes)."""

    pixels: NDArray[np.uint8]  # (N, C, H, W)
    labels: NDArray[np.int64]  # (N,)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.pixels.tobytes() + self.labels.tobytes()).hexdigest()


class Examples(NamedTuple):
    """What a network is trained on: pixels, 0 .. 255, or float32 values as it sees them, such as latents."""

    values: NDArray[np.uint8] | NDArray[np.float32]  # (N, C, H, W)
    labels: NDArray[np.int64]  # (N,)


class IndexedImages(Protocol):
    """A finite set of images that can be read by index."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """The labels of all images, (N,)."""

    def take(self, indices: NDArray[np.int64]) -> Images:
        """Return the images of these indices, in this order, as arrays that belong to the caller."""


class HeldImages:
    """Images in memory, by index."""

    def __init__(self, images: Images):
        self._images = images
        self.labels = images.labels

    def take(self, indices: NDArray[np.int64]) -> Images:
        return Images(self._images.pixels[indices], self.labels[indices])


class TrainingData(Protocol):
    def batch(self, seed: int, step: int, size: int, start: int = 0, count: int | None = None) -> Images | Examples:
        """Return the `size` images of a step, or `count` of them from `start` on. The result depends on the arguments
        alone."""


class EpochOrder:
    """The order in which `images` images are visited, once per epoch: it depends on the epoch and the seed.

    It holds the indices of one epoch's order, 8 bytes per image.
    """

    def __init__(self, images: int):
        self._images = images
        self._held: tuple[tuple[int, int], NDArray[np.int64]] = ((-1, -1), np.empty(0, dtype=np.int64))

    def chosen(self, seed: int, start: int, count: int) -> NDArray[np.int64]:
        """Return the indices of the images with global sample indices start .. start + count - 1; each epoch is one
        permutation."""
        parts = []
        while count:
            epoch, position = divmod(start, self._images)
            parts.append(self._order_of(seed, epoch)[position : position + count])
            start, count = start + len(parts[-1]), count - len(parts[-1])
        return np.concatenate(parts)

    def _order_of(self, seed: int, epoch: int) -> NDArray[np.int64]:
        held, order = self._held  # another thread may replace it
        if held != (seed, epoch):
            order = permutation(seed, epoch, self._images)
            self._held = (seed, epoch), order
        return order


class Shuffled:
    """A finite set of images, visited in the order of the epochs."""

    def __init__(self, images: IndexedImages):
        self.images = images
        self._order = EpochOrder(len(images.labels))

    def batch(self, seed: int, step: int, size: int, start: int = 0, count: int | None = None) -> Images:
        return self.images.take(self.chosen(seed, step * size + start, size - start if count is None else count))

    def chosen(self, seed: int, start: int, count: int) -> NDArray[np.int64]:
        """Return the indices of the images with global sample indices start .. start + count - 1."""
        return self._order.chosen(seed, start, count)


class Flipped:
    """Training data of which each image is mirrored left to right with probability one half, anew in each step."""

    def __init__(self, data: TrainingData):
        self._data = data

    def batch(self, seed: int, step: int, size: int, start: int = 0, count: int | None = None) -> Examples:
        values, labels = self._data.batch(seed, step, size, start, count)
        flipped = values.copy()
        for i in np.flatnonzero(uniform(seed, Stream.FLIP, step, start, len(labels)) < 0.5):
            flipped[i] = values[i, ..., ::-1]
        return Examples(flipped, labels)
