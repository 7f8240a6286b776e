"""Sheets of images for viewing."""

import numpy as np
from einops import rearrange
from numpy.typing import NDArray
from PIL import Image

LEAST_WIDTH = 512  # pixels


def sheet(pixels: NDArray[np.uint8], columns: int = 8) -> Image.Image:
    """Return images (N, C, H, W) in rows of `columns`, separated by one white pixel and enlarged; the last row is
    filled up with white."""
    white = np.full((-len(pixels) % columns, *pixels.shape[1:]), 255, dtype=np.uint8)
    pixels = np.concatenate([pixels, white])
    framed = np.pad(pixels, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=255)
    whole = rearrange(framed, "(r k) c h w -> (r h) (k w) c", k=columns)
    whole = np.repeat(whole, 3, axis=-1) if whole.shape[-1] == 1 else whole
    image = Image.fromarray(whole)
    scale = max(1, LEAST_WIDTH // image.width)
    return image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
