"""Encoding of images and decoding of latents by Diffusers' AutoencoderKL."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from logging import CRITICAL
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffussm.errors import UserError
from diffussm.precision import autocast, products
from diffussm.vae.facts import WEIGHTS, vae_facts

Precision = Literal["float32", "tf32", "bf16"]
DECODED_AT_ONCE = 1 << 20  # pixels


class Autoencoder:
    """The autoencoder in a folder, on a device. It is never trained.

    `black` and `white` are what it has for these pixels. With bf16, its weights stay float32, under autocast; float32
    is not TF32. UserError for a folder that holds none, whose weights do not fit its config, and for images that do not
    fit into the memory of the device.
    """

    def __init__(
        self,
        folder: Path,
        device: torch.device | str = "cpu",
        precision: Precision = "float32",
        vae_range: tuple[float, ...] = (-1.0, 1.0),
    ):
        self.facts = vae_facts(folder)
        self.device, self.precision = torch.device(device), precision
        self._black, self._white = vae_range
        self._network = _load(self.facts.folder).to(self.device)

    @torch.no_grad()
    def moments(self, pixels: NDArray[np.uint8], mirrored: bool = False) -> NDArray[np.float32]:
        """Return the posteriors of images (B, 3, H, W), or of their mirror images, as means and standard deviations:
        (B, 2, C, h, w)."""
        images = torch.from_numpy(pixels).to(self.device).float()
        images.div_(255).mul_(self._white - self._black).add_(self._black)
        if mirrored:
            images = images.flip(-1)
        with self._computing():
            posterior = self._network.encode(images).latent_dist
        return torch.stack([posterior.mean.float(), posterior.std.float()], 1).cpu().numpy()

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Return images (B, 3, H, W) in [-1, 1], where they are in range, of unscaled latents (B, C, h, w)."""
        size = max(1, DECODED_AT_ONCE // (latents.shape[-1] * self.facts.factor) ** 2)
        with self._computing():
            parts = [self._network.decode(part).sample.float() for part in latents.to(self.device).split(size)]
        return (torch.cat(parts) - self._black) / (self._white - self._black) * 2 - 1

    @contextmanager
    def _computing(self) -> Iterator[None]:
        deterministic = torch.backends.cudnn.flags(enabled=True, deterministic=True)
        try:
            with deterministic, products(self.precision == "tf32"), autocast(self.precision, self.device):
                yield
        except torch.OutOfMemoryError:
            raise UserError(
                f"{self.facts.folder}: the autoencoder with a batch of this size does not fit into the memory of "
                f"{self.device}; reduce the batch"
            ) from None


def _load(folder: Path) -> Any:
    """Return the network, without the advice that Diffusers prints."""
    if not find_spec("diffusers"):
        raise UserError(f"{folder}: needs Diffusers, the extra `vae`: pip install 'diffussm[vae]'")
    from diffusers import AutoencoderKL
    from diffusers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity(CRITICAL)
    try:
        network, found = AutoencoderKL.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, low_cpu_mem_usage=False, output_loading_info=True
        )
    except Exception as error:  # Diffusers, safetensors and torch raise many kinds
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"{folder}: {WEIGHTS} cannot be loaded as config.json says: {reason}") from None
    finally:
        logging.set_verbosity(verbosity)
    if wrong := [*found["missing_keys"], *found["unexpected_keys"]]:
        raise UserError(f"{folder}: {WEIGHTS} does not fit config.json, at {wrong[0]} and {len(wrong) - 1} others")
    return network.eval().requires_grad_(False)
