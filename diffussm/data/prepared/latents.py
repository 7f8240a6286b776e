"""Latents of a prepared data set, as the network sees them: a sample of each posterior, drawn anew for each step."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diffussm.data.images import EpochOrder, Examples, Images
from diffussm.data.prepared.manifest import check_mirrored
from diffussm.data.prepared.reader import PreparedItems
from diffussm.errors import UserError
from diffussm.rng import Stream, quantile_normal, uniform

Decode = Callable[[NDArray[np.float32]], NDArray[np.uint8]]  # latents as the network sees them -> pixels (N, 3, H, W)


class PreparedLatents(PreparedItems):
    """The latents and labels of a prepared data set, by index. UserError for pixels."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        if self.manifest.latents is None:
            raise UserError(f"{folder}: holds images, not latents")
        facts, m = self.manifest.latents, self.manifest
        self.facts, self.shape = facts, (m.channels, m.image_size, m.image_size)
        self._scale, self._shift = (
            np.array(values, dtype=np.float32).reshape(-1, 1, 1) for values in (facts.scale, facts.shift)
        )

    def stored(self, indices: NDArray[np.int64], views: NDArray[np.int64] | int = 0) -> NDArray[np.float32]:
        """Return a view of each image as it is stored: means and standard deviations (N, 2, C, h, w), or samples
        (N, C, h, w)."""
        return self.read(indices, views).astype(np.float32, copy=False)

    def scaled(self, latents: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return stored latents (N, C, h, w) as the network sees them."""
        return latents if self.facts.scaled else (latents - self._shift) * self._scale

    def means(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the posteriors' means, or the samples, unmirrored, as the network sees them: (N, C, h, w)."""
        stored = self.stored(indices)
        return self.scaled(stored[:, 0] if self.manifest.kind == "mean-std" else stored)


class DecodedLatents:
    """The images of latents, by index: the decoded means of their posteriors, or samples, unmirrored."""

    def __init__(self, latents: PreparedLatents, decode: Decode):
        self._latents, self._decode = latents, decode
        self.labels = latents.labels

    def take(self, indices: NDArray[np.int64]) -> Images:
        return Images(self._decode(self._latents.means(indices)), self.labels[indices])


class LatentTraining:
    """What a run is trained on: latents by an order that depends on the epoch, each posterior drawn anew in each step.

    With `flip`, the mirror image of the pair is taken with probability one half; UserError if no pairs are stored.
    """

    def __init__(self, latents: PreparedLatents, flip: bool):
        if flip:
            check_mirrored(latents.folder, latents.manifest.flips)
        self._latents, self._flip = latents, flip
        self._order = EpochOrder(latents.count)

    def batch(self, seed: int, step: int, size: int, start: int = 0, count: int | None = None) -> Examples:
        count = size - start if count is None else count
        indices = self._order.chosen(seed, step * size + start, count)
        views: NDArray[np.int64] | int = 0
        if self._flip:
            views = (uniform(seed, Stream.FLIP, step, start, count) < 0.5).astype(np.int64)
        stored, labels = self._latents.stored(indices, views), self._latents.labels[indices]
        if self._latents.manifest.kind == "sample":
            return Examples(self._latents.scaled(stored), labels)
        latents = quantile_normal(seed, Stream.POSTERIOR, step, start, count, self._latents.shape)
        latents *= stored[:, 1]
        latents += stored[:, 0]
        return Examples(self._latents.scaled(latents), labels)
