"""What is done to an image to bring it to its size. By name: `TRANSFORMS`."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CENTRE_CROP, LSUN, NONE = "centre-crop", "lsun", "none"
MAX_RESIZED_PIXELS = 2**28  # of an image while it is brought to its size; a strip of 1 x 60,000 pixels has more


class CannotTransform(Exception):
    """An image that a transform does not apply to; the message says why."""


def centre_cropped(image: Image.Image, size: int) -> Image.Image:
    """Return the image, size x size, as ADM and DiT train and are measured with (guided-diffusion,
    `image_datasets.py`).

    The box filter halves while the shorter side is twice the size or more; bicubic interpolation brings that side to
    the size; the centre is cut out.
    """
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    return _resized_and_cut(image, size, Image.Resampling.BICUBIC)


def box_resized(image: Image.Image, size: int) -> Image.Image:
    """Return the image, size x size, as ADM takes LSUN's out of its LMDB (guided-diffusion, `lsun_bedroom.py`).

    The box filter brings the shorter side to the size in one step; the centre is cut out.
    """
    return _resized_and_cut(image, size, Image.Resampling.BOX)


def _resized_and_cut(image: Image.Image, size: int, resampling: Image.Resampling) -> Image.Image:
    """Return the centre of the image after its shorter side was brought to the size; half pixels are rounded to even
    numbers, as Python does."""
    scale = size / min(image.size)
    width, height = round(image.width * scale), round(image.height * scale)
    if width * height > MAX_RESIZED_PIXELS:
        raise CannotTransform(f"is {image.width} x {image.height} pixels, a strip that is too long to be resized")
    image = image.resize((width, height), resampling)
    left, top = (width - size) // 2, (height - size) // 2
    return image.crop((left, top, left + size, top + size))


def unchanged(image: Image.Image, size: int) -> Image.Image:
    """Return the image itself, which must be size x size."""
    if image.size != (size, size):
        raise CannotTransform(f"is {image.width} x {image.height} pixels, expected {size} x {size}")
    return image


TRANSFORMS: dict[str, Callable[[Image.Image, int], Image.Image]] = {
    CENTRE_CROP: centre_cropped,
    LSUN: box_resized,
    NONE: unchanged,
}


def described(transform: str, size: int) -> str:
    """Return the transform as data sets and references state it."""
    return transform if transform == NONE else f"{transform} {size}"


def in_channels(image: Image.Image, channels: int) -> Image.Image:
    """Return the image in grey (1) or RGB (3), without its alpha channel."""
    if channels == 3:
        return image if image.mode == "RGB" else image.convert("RGB")  # which would copy it
    return image.convert("L") if image.mode in ("1", "L", "LA") else image.convert("RGB").convert("L")


def as_array(image: Image.Image) -> NDArray[np.uint8]:
    """Return the pixels, (C, H, W), of an image in grey or RGB."""
    return np.atleast_3d(np.asarray(image)).transpose(2, 0, 1)
