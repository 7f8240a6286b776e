"""The interface of layouts of latents, what a layout says of them, and the checks of what is read."""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from diffussm.data.sources.base import Entry, Found, Origin
from diffussm.errors import UserError

ONE_SAMPLE, ONE_FLIP = "one posterior sample", "one flip"
STABLE_DIFFUSION = 0.18215  # the scale of its VAE
IMAGENET_CLASSES, IMAGENET_TRAIN = 1000, 1_281_167
REDUCTION = {4: 8, 16: 16, 32: 16}  # channels to pixels for each latent, of the VAEs in use


@dataclass(frozen=True)
class Facts:
    """What a layout says of its latents. None: it does not, and it must be told."""

    kind: Literal["mean-std", "sample"]
    flips: Literal["none", "paired", "baked"]
    shape: tuple[int, int, int]  # (C, h, w)
    scaled: bool = False  # whether the stored values are scaled and shifted
    scale: tuple[float, ...] | None = None
    shift: tuple[float, ...] = (0.0,)
    vae_range: tuple[float, float] = (-1.0, 1.0)

    @property
    def baked(self) -> tuple[str, ...]:
        """Return what cannot be drawn anew."""
        return (ONE_SAMPLE,) * (self.kind == "sample") + (ONE_FLIP,) * (self.flips == "baked")

    @property
    def decoded_size(self) -> int | None:
        """Return the pixels per side of the images; None if the VAE is not known by its channels."""
        channels, height, _ = self.shape
        return height * REDUCTION[channels] if channels in REDUCTION else None

    @property
    def item_shape(self) -> tuple[int, ...]:
        """Return the shape of what is read of an image: (F, 2, C, h, w), or (F, C, h, w) of samples."""
        flips = 2 if self.flips == "paired" else 1
        return (flips, 2, *self.shape) if self.kind == "mean-std" else (flips, *self.shape)


class LatentSource(Origin, Protocol):
    """Latents at a path. It is small and can be pickled: other processes read entries of it."""

    def listed(self) -> Found:
        """Return what there is, the same order at every call; UserError if it cannot be listed, or is not whole."""

    def facts(self, found: Found) -> Facts:
        """Return what is true of all of them, the shape by the first of what was listed."""

    def read(self, entry: Entry) -> NDArray[np.float32]:
        """Return mean and standard deviation of an image's flips, (F, 2, C, h, w), or their samples, (F, C, h, w);
        UserError, which names the file, if it is damaged."""


def checked(source: LatentSource, facts: Facts, entry: Entry) -> NDArray[np.float32]:
    """Return what the source has of an image; UserError if it is not of the shape of the first, or cannot be."""
    values, what = source.read(entry), source.naming(entry)
    if values.shape != facts.item_shape:
        raise UserError(f"{what}: has shape {values.shape}, the first latent {facts.item_shape}")
    if not np.isfinite(values).all():
        raise UserError(f"{what}: holds numbers that are not finite")
    if facts.kind == "mean-std" and values[:, 1].min() < 0:
        raise UserError(f"{what}: a standard deviation is negative: {values[:, 1].min():.6g}")
    if not values.any():
        raise UserError(f"{what}: is all zeros: it was never written")
    return values


def latent_shape(shape: tuple[int, ...], what: str) -> tuple[int, int, int]:
    """Return the shape as (C, h, w); UserError if latents do not have such a one."""
    if len(shape) != 3 or shape[1] != shape[2] or min(shape) < 1:
        raise UserError(f"{what}: has shape {shape}; latents are (C, h, w), as high as wide")
    return shape[0], shape[1], shape[2]


def standard_deviation(logvar: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return it of logarithms of variances, which are clamped as Stable Diffusion's VAE clamps them."""
    return np.exp(np.float32(0.5) * np.clip(logvar, np.float32(-30), np.float32(20)))
