"""A set of images in memory."""

import hashlib

import numpy as np
import pytest

from diffussm.data.pixels import ArrayPixels
from tests.support.image_sets import images


def test_array() -> None:
    pixels = ArrayPixels(images(5))
    np.testing.assert_array_equal(np.concatenate(list(pixels.batches(2, 1, 4))), images(5)[1:4])
    assert pixels.sha256 == hashlib.sha256(images(5).tobytes()).hexdigest()
    for array in (images(5)[0], images(5).astype(np.int16)):
        with pytest.raises(ValueError, match="needed is uint8"):
            ArrayPixels(array)
