"""From images in [-1, 1] to pixels."""

import numpy as np
import torch
from numpy.typing import NDArray

from diffussm.errors import NotFinite


def to_pixels(images: torch.Tensor, start: int = 0) -> NDArray[np.uint8]:
    """Map [-1, 1] to 0 .. 255; NotFinite names the first sample, counted from `start`, that is not finite."""
    check_finite(images, start)
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu().numpy()


def check_finite(samples: torch.Tensor, start: int) -> None:
    """Raise NotFinite, which names the first sample, counted from `start`, that is not finite."""
    finite = samples.flatten(1).isfinite().all(1)
    if not finite.all():
        raise NotFinite(f"sample {start + int(finite.int().argmin())} is not finite")
