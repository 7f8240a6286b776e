"""A loaded data set, and its loading by name with the content checked."""

import hashlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from diffussm.data.catalogue import facts
from diffussm.errors import UserError


class Images(NamedTuple):
    """Pixels in grey levels 0 .. 255, labels 0 .. classes - 1."""

    pixels: NDArray[np.uint8]  # (N, C, H, W)
    labels: NDArray[np.int64]  # (N,)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.pixels.tobytes() + self.labels.tobytes()).hexdigest()


def load(name: str, field: str = "data.name") -> Images:
    """Data set `name`; UserError, naming config field `field`, if it is unknown or not the content in the catalogue."""
    expected = facts(name, field).sha256
    from diffussm.data import digits

    images = {"digits": digits.load}[name]()
    if images.sha256 != expected:
        raise UserError(f"{field} = {name}: the installed data is not the known one (sha256 {images.sha256[:12]}...)")
    return images
