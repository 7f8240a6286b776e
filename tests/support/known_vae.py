"""An autoencoder whose encoding and decoding are known in closed form, in place of Diffusers' network."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from diffussm.vae.facts import CONFIG, WEIGHTS

FACTOR, CHANNELS = 2, 2
STD = (0.25, 0.5)  # of each channel, the same for all images
# mean[c, i, j] = sum of WEIGHT[c, k, u, v] * image[k, 2 i + u, 2 j + v]: no two weights of a channel are alike
WEIGHT = np.arange(1, 25, dtype=np.float32).reshape(CHANNELS, 3, FACTOR, FACTOR)[:, :, :, ::-1] / 64
GAINS = (0.5, -0.25, 0.125)  # image[k] = GAINS[k] * latent[k % 2], each value repeated


class KnownNetwork:
    """What diffussm asks of Diffusers' AutoencoderKL."""

    def to(self, _: torch.device) -> "KnownNetwork":
        return self

    def encode(self, images: torch.Tensor) -> Any:
        mean = torch.nn.functional.conv2d(images, torch.from_numpy(WEIGHT.copy()), stride=FACTOR)
        std = torch.tensor(STD).reshape(-1, 1, 1).expand_as(mean)
        return SimpleNamespace(latent_dist=SimpleNamespace(mean=mean, std=std))

    def decode(self, latents: torch.Tensor) -> Any:
        repeated = latents.repeat_interleave(FACTOR, -1).repeat_interleave(FACTOR, -2)
        return SimpleNamespace(sample=torch.stack([gain * repeated[:, k % 2] for k, gain in enumerate(GAINS)], 1))


def known_vae(folder: Path, patch: pytest.MonkeyPatch, weights: bytes = b"", **config: Any) -> Path:
    """Save the folder of an autoencoder of this shape, and let it compute as `KnownNetwork` does."""
    folder.mkdir(parents=True, exist_ok=True)
    shape = {"block_out_channels": [4] * (1 + int(np.log2(FACTOR))), "latent_channels": CHANNELS}
    (folder / CONFIG).write_text(json.dumps({"_class_name": "AutoencoderKL", **shape, **config}))
    (folder / WEIGHTS).write_bytes(weights)
    patch.setattr("diffussm.vae.autoencoder._load", lambda _: KnownNetwork())
    return folder


def known_means(pixels: NDArray[np.uint8], black: float, white: float) -> NDArray[np.float64]:
    """Return the means (N, C, h, w) of images (N, 3, H, W)."""
    x = pixels.astype(np.float64) / 255 * (white - black) + black
    n, k, height, width = x.shape
    patches = x.reshape(n, k, height // FACTOR, FACTOR, width // FACTOR, FACTOR)
    return np.einsum("nkiujv,ckuv->ncij", patches, WEIGHT.astype(np.float64))


def known_images(latents: NDArray[np.float64], black: float, white: float) -> NDArray[np.float64]:
    """Return the images (N, 3, H, W), 0 .. 255 before they are rounded and clipped, of unscaled latents."""
    repeated = latents.repeat(FACTOR, -1).repeat(FACTOR, -2)
    images = np.stack([gain * repeated[:, k % 2] for k, gain in enumerate(GAINS)], 1)
    return (images - black) / (white - black) * 255
