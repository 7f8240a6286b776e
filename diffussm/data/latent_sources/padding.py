"""The images that PyTorch's DistributedSampler adds so that all processes have equally many.

Process r of W takes images r, r + W, ...; where their number is no multiple of W, the first ones follow the last. Their
labels are equal, and so are their latents but for the draw from the posterior.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from diffussm.data.latent_sources.base import IMAGENET_CLASSES, IMAGENET_TRAIN
from diffussm.errors import UserError

ADDED = "duplicates of the first images, which DistributedSampler adds"
_CLOSE = 0.25  # of the squared distance of different images


def stated_number(images: int | None, classes: int) -> int | None:
    """Return how many images there were: as stated, or ImageNet's if there are as many classes; None if unknown."""
    return IMAGENET_TRAIN if images is None and classes == IMAGENET_CLASSES else images


def duplicates(
    labels: NDArray[np.int64],
    processes: int,
    images: int | None,
    latent: Callable[[int], NDArray[np.float32]],
    what: str,
) -> int:
    """Return how many of the last latents are duplicates of the first.

    `labels` are in the order of the images, which had `images` of them if that is known; `latent` returns one by its
    place in that order. UserError, beginning with `what`, if the number does not fit.
    """
    count = len(labels)
    if images is not None:
        if not 0 <= count - images < processes:
            raise UserError(
                f"{what}: holds {count:,} latents, of {images:,} images that {processes} processes encoded; "
                "--images N says how many there were"
            )
        return count - images
    for added in range(min(processes, count) - 1, 0, -1):
        if (labels[-added:] == labels[:added]).all() and all(
            _are_close(latent(count - added + i), latent(i)) for i in range(added)
        ):
            return added
    return 0


def _are_close(first: NDArray[np.float32], second: NDArray[np.float32]) -> bool:
    """Return whether two latents (C, h, w) are of one image: nearer to each other than their spreads allow others."""
    a, b = first.astype(np.float64), second.astype(np.float64)
    spread = a.var(axis=(1, 2)).sum() + b.var(axis=(1, 2)).sum()
    distance = np.square(a - b).mean(axis=(1, 2)).sum()
    return bool(distance < _CLOSE * spread)
