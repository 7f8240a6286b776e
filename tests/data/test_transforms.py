"""What brings an image to its size, against the lines of the programs that published it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from diffussm.data.transforms import LSUN, TRANSFORMS, CannotTransform, described

Pixels = NDArray[np.uint8]


def smooth(width: int, height: int) -> Image.Image:
    """Few colours with gradients between them: a shift by a part of a pixel changes it everywhere."""
    few = np.random.default_rng(width * 1000 + height).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    return Image.fromarray(few).resize((width, height), Image.Resampling.BICUBIC)


def guided_diffusion_lsun(img: Image.Image, image_size: int) -> Pixels:
    """(size, size, 3), by the lines of guided-diffusion's `datasets/lsun_bedroom.py`."""
    width, height = img.size
    scale = image_size / min(width, height)
    img = img.resize((int(round(scale * width)), int(round(scale * height))), resample=Image.BOX)  # noqa: RUF046
    arr = np.array(img)
    h, w, _ = arr.shape
    h_off = (h - image_size) // 2
    w_off = (w - image_size) // 2
    return arr[h_off : h_off + image_size, w_off : w_off + image_size]


def averaged(image: Image.Image, factor: int) -> NDArray[np.float64]:
    """The mean of each factor x factor pixels."""
    pixels = np.asarray(image, dtype=np.float64)
    height, width, channels = pixels.shape
    return pixels.reshape(height // factor, factor, width // factor, factor, channels).mean((1, 3))


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40))
@settings(max_examples=150, deadline=None)
def test_lsun_is_as_adm_takes_it(width: int, height: int, size: int) -> None:
    image = smooth(width, height)
    assert np.array_equal(np.asarray(TRANSFORMS[LSUN](image, size)), guided_diffusion_lsun(image, size))


@pytest.mark.parametrize("factor", [1, 2, 3, 5])
def test_lsun_is_one_average_over_boxes(factor: int) -> None:
    image = smooth(16 * factor, 8 * factor)
    expected = averaged(image, factor)[:, 4:12]
    found = np.asarray(TRANSFORMS[LSUN](image, 8), dtype=np.float64)
    assert np.abs(found - expected).max() <= 1 + 1e-9  # rows are rounded, then columns


def test_half_pixels_are_rounded_to_even_numbers() -> None:
    """A side of 20 at scale 1/8 has 2.5 pixels, which are 2: none is left to cut off. At 28 it has 3.5, which are 4."""
    for side, left in ((20, 0), (28, 1)):
        image = smooth(side, 16)
        columns = np.asarray(image.resize((round(side / 8), 2), Image.Resampling.BOX))
        assert np.array_equal(np.asarray(TRANSFORMS[LSUN](image, 2)), columns[:, left : left + 2])


def test_it_is_not_the_centre_crop() -> None:
    image = smooth(90, 70)
    results = {
        name: np.asarray(transform(image, 32)).tobytes() for name, transform in TRANSFORMS.items() if name != "none"
    }
    assert len(set(results.values())) == 2


def test_a_strip_is_not_resized() -> None:
    with pytest.raises(CannotTransform, match="60000 x 1 pixels, a strip"):
        TRANSFORMS[LSUN](Image.new("RGB", (60_000, 1)), 128)


def test_its_name() -> None:
    assert described(LSUN, 256) == "lsun 256"
