"""From what a network samples to images: as they are, or decoded."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from diffussm.config import Config
from diffussm.errors import UserError
from diffussm.metrics.decoding.given import given_vae, is_decoded, missing_vae
from diffussm.vae.autoencoder import Autoencoder, Precision


class Decoder(NamedTuple):
    """What makes images of what the network samples."""

    shape: tuple[int, int, int]  # (C, H, W) of an image
    decode: Callable[[Tensor], Tensor]  # (B, C, h, w) as the network sees them -> images (B, C, H, W) in [-1, 1]


def make_decoder(config: Config, device: torch.device | str = "cpu") -> Decoder:
    """Return the decoder of the config's samples, on the device; for pixels, they are the images.

    Latents z are decoded from z / scale + shift, with scale and shift of the data, or of the autoencoder's config where
    the data state none. Raises UserError, which names the field, without the autoencoder that the data need.
    """
    if not is_decoded(config):
        side = config.model.image_size
        return Decoder((config.model.channels, side, side), lambda images: images)
    if missing := missing_vae(config):
        raise UserError(missing)
    data, facts = config.data, given_vae(config)
    precision: Precision = "float32" if config.evaluation.precision == "float32" else "tf32"
    autoencoder = _autoencoder(facts.folder, facts.sha256, str(device), precision, data.vae_range)
    scale, shift = (
        torch.tensor(values, device=device).reshape(-1, 1, 1)
        for values in (data.scale or facts.scale, data.shift or facts.shift)
    )
    return Decoder(
        (3, data.decoded_size, data.decoded_size), lambda latents: autoencoder.decode(latents / scale + shift)
    )


@lru_cache(maxsize=1)  # a process evaluates many runs
def _autoencoder(
    folder: Path, sha256: str, device: str, precision: Precision, vae_range: tuple[float, ...]
) -> Autoencoder:
    made = Autoencoder(folder, device, precision, vae_range)
    if made.facts.sha256 != sha256:
        raise UserError(f"{folder}: changed while it was read")
    return made
