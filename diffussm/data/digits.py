"""Scikit-learn's 1,797 handwritten digits (UCI "Optical Recognition of Handwritten Digits"), at 8 x 8 and at 16 x 16.

One channel, grey levels 0 .. 16 scaled to bytes. All images are used for training and as the reference. Those of
16 x 16 are interpolated from those of 8 x 8, and stay for runs of before there was `mnist`.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diffussm.data.images import Images
from diffussm.data.installed import package_folder


def scikit_learn_folder() -> Path:
    """Return the folder of the package; raise UserError if it is not installed."""
    return package_folder("sklearn", "scikit-learn", "the data sets digits, digits16 and photos are")


def load() -> Images:
    """Return the digits at 8 x 8."""
    table = np.loadtxt(scikit_learn_folder() / "datasets/data/digits.csv.gz", delimiter=",", dtype=np.int64)
    pixels = np.rint(table[:, :-1] * (255 / 16)).astype(np.uint8)
    return Images(pixels.reshape(-1, 1, 8, 8), table[:, -1])


def load_16() -> Images:
    """Return the digits at 16 x 16."""
    images = load()
    return Images(upsample_2x(images.pixels), images.labels)


def upsample_2x(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return images at twice the side: (N, C, H, W) -> (N, C, 2H, 2W).

    The interpolation is bilinear, with aligned pixel centres and repeated edges. It is computed in integer sixteenths,
    rounded half up, so that the bytes are the same everywhere.
    """
    sixteenths = pixels.astype(np.int64)
    for axis in (2, 3):
        before = np.concatenate(
            [sixteenths.take([0], axis), sixteenths.take(range(pixels.shape[axis] - 1), axis)], axis
        )
        after = np.concatenate([sixteenths.take(range(1, pixels.shape[axis]), axis), sixteenths.take([-1], axis)], axis)
        pairs = np.stack([before + 3 * sixteenths, 3 * sixteenths + after], axis + 1)
        shape = list(sixteenths.shape)
        shape[axis] *= 2
        sixteenths = pairs.reshape(shape)
    return ((sixteenths + 8) // 16).astype(np.uint8)
