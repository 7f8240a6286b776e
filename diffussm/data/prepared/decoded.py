"""Images of prepared latents, as their autoencoder decodes them."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from diffussm.data.images import Images
from diffussm.data.pixels.base import Shape
from diffussm.data.prepared.latents import PreparedLatents
from diffussm.errors import UserError
from diffussm.vae.autoencoder import Autoencoder
from diffussm.vae.facts import vae_facts


class DecodedLatents:
    """Images of the posteriors' means, or of the samples, by index.

    Raises UserError, which begins with `origin`, if the autoencoder in the folder `vae` is another than encoded them,
    where that is known, or makes latents of another shape.
    """

    def __init__(self, latents: PreparedLatents, vae: Path, device: str, origin: str):
        self._latents, facts = latents, latents.facts
        self.manifest, self.labels, self.count = latents.manifest, latents.labels, latents.count
        self.shape: Shape = (3, facts.decoded_size, facts.decoded_size)
        found = vae_facts(vae)
        if facts.vae_sha256 not in ("", found.sha256):
            raise UserError(
                f"{origin}: has SHA-256 {found.sha256}, but {latents.folder} was encoded by one with {facts.vae_sha256}"
            )
        if (shape := found.latent_shape(facts.decoded_size)) != latents.shape:
            raise UserError(
                f"{origin}: its latents of {facts.decoded_size} x {facts.decoded_size} pixels have {_shown(shape)}, "
                f"those in {latents.folder} {_shown(latents.shape)}"
            )
        self._autoencoder = Autoencoder(vae, device, vae_range=facts.vae_range)
        self._scale, self._shift = (
            np.array(values, dtype=np.float32).reshape(-1, 1, 1) for values in (facts.scale, facts.shift)
        )

    def take(self, indices: Iterable[int] | NDArray[np.int64]) -> Images:
        """Return the images of these indices, 0 .. count - 1, in this order."""
        chosen = np.asarray(indices if isinstance(indices, np.ndarray) else list(indices), dtype=np.int64)
        decoded = self._autoencoder.decode(torch.from_numpy(self._latents.means(chosen) / self._scale + self._shift))
        pixels = ((decoded.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        return Images(pixels.cpu().numpy(), self.labels[chosen])


def _shown(shape: Shape) -> str:
    return " x ".join(map(str, shape))
