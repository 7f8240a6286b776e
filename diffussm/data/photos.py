"""Random 32 x 32 colour crops of the two photographs that scikit-learn ships: a Chinese temple and a flower.

Each photograph, 427 x 640 pixels, is divided into ten vertical bands of 64 pixels; a crop lies within one band. Even
bands are for training, odd bands for the reference, so that they share no pixel. The photographs are CC BY 2.0
(danielbuechele; vultilion).
"""

import hashlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diffussm.data.digits import scikit_learn_folder
from diffussm.data.images import Images
from diffussm.errors import UserError
from diffussm.rng import Stream, uniform

BAND, SIDE = 64, 32
REFERENCE_CROPS = 2048
PHOTOGRAPHS = {  # SHA-256 of the decoded pixels
    "china.jpg": "e701459344fd69797154c91add3bb5d70e5ed1a61d8bed889bab3a796104698d",
    "flower.jpg": "3202904ed246795bf616c66d7859cd7c6080eff736c6e38dc5cc62779742033f",
}


class Crops:
    """Random crops of the even (`training`) or odd bands of both photographs."""

    def __init__(self, training: bool):
        self.photographs = [_decoded(name, sha256) for name, sha256 in PHOTOGRAPHS.items()]
        height, width, _ = self.photographs[0].shape
        self.rows = height - SIDE + 1
        self.bands = range(0 if training else 1, width // BAND, 2)

    def batch(self, seed: int, step: int, size: int, start: int = 0, count: int | None = None) -> Images:
        crops, _ = self.take(seed, step, size - start if count is None else count, start)
        return Images(crops, np.zeros(len(crops), dtype=np.int64))

    def take(self, seed: int, step: int, count: int, start: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return crops (count, 3, 32, 32), uniform over photographs, bands and positions, and the index of the
        photograph of each."""
        choices = (len(self.photographs), len(self.bands), self.rows, BAND - SIDE + 1)
        drawn = (uniform(seed, Stream.CROP, step, start, count, (4,)) * choices).astype(np.int64)
        crops = np.empty((count, SIDE, SIDE, 3), dtype=np.uint8)
        for i, (photograph, band, row, column) in enumerate(drawn):
            left = self.bands[band] * BAND + column
            crops[i] = self.photographs[photograph][row : row + SIDE, left : left + SIDE]
        return np.ascontiguousarray(crops.transpose(0, 3, 1, 2)), drawn[:, 0]


def reference() -> Images:
    """Return 2,048 fixed crops of the reference bands."""
    return Crops(training=False).batch(0, 0, REFERENCE_CROPS)


def _decoded(name: str, sha256: str) -> NDArray[np.uint8]:
    pixels = np.asarray(Image.open(scikit_learn_folder() / "datasets/images" / name).convert("RGB"))
    found = hashlib.sha256(pixels.tobytes()).hexdigest()
    if found != sha256:
        raise UserError(
            f"data.name = photos: the pixels of {name} have sha256 {found[:12]}..., expected {sha256[:12]}...; "
            "another JPEG decoder may give other pixels"
        )
    return pixels
