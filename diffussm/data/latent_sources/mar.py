"""MAR's cache: `<class>/<name>.JPEG.npz` with `moments` and `moments_flip`, each (2C, h, w): mean and logarithm of the
variance of an image and of its mirror image."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from diffussm.data.latent_sources.arrays import content, floats, npz
from diffussm.data.latent_sources.base import STABLE_DIFFUSION, Facts, latent_shape, standard_deviation
from diffussm.data.sources.base import Entry, Found
from diffussm.data.sources.folder import ImageFolder
from diffussm.errors import UserError

SCALES = {4: STABLE_DIFFUSION, 16: 0.2325}  # channels to scale; MAR's KL-16 has 16


@dataclass(frozen=True)
class Mar:
    """The latents in the order of their paths; the classes are the folders, sorted."""

    path: Path
    kind: ClassVar[str] = "mar"

    def listed(self) -> Found:
        return self._files().listed()

    def facts(self, found: Found) -> Facts:
        flips, _, channels, height, width = self.read(found.entries[0]).shape
        return Facts(
            "mean-std",
            "paired" if flips == 2 else "none",
            latent_shape((channels, height, width), self.naming(found.entries[0])),
            scale=(SCALES[channels],) if channels in SCALES else None,
        )

    def read(self, entry: Entry) -> NDArray[np.float32]:
        what = self.naming(entry)
        arrays = npz(content(self._files(), entry), ("moments", "moments_flip"), what)
        if "moments" not in arrays:
            raise UserError(f"{what}: holds no array moments, as MAR writes it")
        return np.stack([_mean_std(floats(array, what), f"{what}: {name}") for name, array in arrays.items()])

    def naming(self, entry: Entry) -> str:
        return self._files().naming(entry)

    def _files(self) -> ImageFolder:
        return ImageFolder(self.path, suffixes=(".npz",))


def _mean_std(moments: NDArray[np.float32], what: str) -> NDArray[np.float32]:
    if moments.ndim != 3 or len(moments) % 2:
        raise UserError(f"{what}: has shape {moments.shape}; moments are (2C, h, w)")
    mean, logvar = np.split(moments, 2)
    return np.stack([mean, standard_deviation(logvar)])
