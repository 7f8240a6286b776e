"""DDT's cache: `<class>/<name>.JPEG.pt`, a dict of tensors `mean` and `logvar`, (C, h, w) each."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from diffussm.data.latent_sources.arrays import content
from diffussm.data.latent_sources.base import STABLE_DIFFUSION, Facts, latent_shape, standard_deviation
from diffussm.data.latent_sources.tensors import tensors
from diffussm.data.sources.base import Entry, Found
from diffussm.data.sources.folder import ImageFolder
from diffussm.errors import UserError


@dataclass(frozen=True)
class Ddt:
    """The latents in the order of their paths; the classes are the folders, sorted."""

    path: Path
    kind: ClassVar[str] = "ddt"

    def listed(self) -> Found:
        return self._files().listed()

    def facts(self, found: Found) -> Facts:
        _, _, channels, height, width = self.read(found.entries[0]).shape
        shape = latent_shape((channels, height, width), self.naming(found.entries[0]))
        return Facts("mean-std", "none", shape, scale=(STABLE_DIFFUSION,) if channels == 4 else None)

    def read(self, entry: Entry) -> NDArray[np.float32]:
        what = self.naming(entry)
        mean, logvar = tensors(content(self._files(), entry), ("mean", "logvar"), what)
        if mean.shape != logvar.shape or mean.ndim != 3:
            raise UserError(f"{what}: has mean {mean.shape} and logvar {logvar.shape}; both are (C, h, w)")
        return np.stack([mean, standard_deviation(logvar)])[None]

    def naming(self, entry: Entry) -> str:
        return self._files().naming(entry)

    def _files(self) -> ImageFolder:
        return ImageFolder(self.path, suffixes=(".pt",))
