"""EDM2's latents, and REPA's, who took over its tool: `00000/img-mean-std-00000000.npy`, float32 (2C, h, w).

They lie in a folder or in a zip that is not compressed, with their labels in `dataset.json`. EDM2 feeds pixels in
0 .. 1 to the VAE and REPA pixels in -1 .. 1; nothing but the values tells which.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from diffussm.data.latent_sources.arrays import content, floats, npy
from diffussm.data.latent_sources.base import STABLE_DIFFUSION, Facts, latent_shape
from diffussm.data.sources.base import MAX_CLASSES, Entry, Found
from diffussm.data.sources.folder import ImageFolder
from diffussm.data.sources.zip import ZipOfImages
from diffussm.errors import UserError

NAME = re.compile(r"\d{5,}/img-mean-std-(\d{8,})\.npy")
LABELS = "dataset.json"
ZERO_TO_ONE = (0.0, 1.0)
MEAN, STD, WHITENED_STD = (5.81, 3.25, 0.12, -2.15), (4.17, 4.62, 3.71, 3.28), 0.5  # of EDM2's latents of ImageNet
LIKE_EDM2 = 0.4  # standard deviations, of the four channels' means from these
SAMPLED = 256  # latents whose means are taken
_MOST_OF_LABELS = 1 << 28  # bytes


@dataclass(frozen=True)
class Edm2:
    """The latents in the order of their numbers. `vae_range`: of the pixels that were fed to the VAE."""

    path: Path
    vae_range: tuple[float, float] | None = None
    kind: ClassVar[str] = "edm2"

    def listed(self) -> Found:
        everything = self._files().listed()
        entries = [entry for entry in everything.entries if NAME.fullmatch(entry.name)]
        if not entries:
            raise UserError(
                f"{self.path}: holds no 00000/img-mean-std-00000000.npy, as EDM2's and REPA's tools write them"
            )
        for number, entry in enumerate(entries):
            if not entry.name.endswith(f"{number:08d}.npy"):
                raise UserError(f"{self.path}: img-mean-std-{number:08d}.npy is missing")
        skipped = everything.skipped
        if others := sum(entry.name != LABELS for entry in everything.entries) - len(entries):
            skipped = skipped | {"with other names": others}
        labels = self._labels([entry for entry in everything.entries if entry.name == LABELS])
        if labels is None:
            return Found(entries, (), skipped, everything.modified)
        if other := sorted(labels.keys() ^ {entry.name for entry in entries}):
            lack = "names no label of it" if other[0] not in labels else "names it, but it is not there"
            raise UserError(f"{self.path}: {other[0]}: {LABELS} {lack}")
        labelled = [entry._replace(label=labels[entry.name]) for entry in entries]
        classes = tuple(map(str, range(max(labels.values()) + 1)))
        return Found(labelled, classes, skipped, everything.modified)

    def facts(self, found: Found) -> Facts:
        _, _, channels, height, width = self.read(found.entries[0]).shape
        shape = latent_shape((channels, height, width), self.naming(found.entries[0]))
        if self.vae_range is None:
            raise UserError(
                f"{self.path}: add --vae-range 0,1 if EDM2's tool wrote these latents, or --vae-range -1,1 if REPA's "
                "did: the files are alike, and none says in which range the VAE was fed pixels"
            )
        if channels != len(MEAN):
            return Facts("mean-std", "none", shape, vae_range=self.vae_range)
        self._check_range(found)
        if self.vae_range == ZERO_TO_ONE:
            scale = tuple(WHITENED_STD / std for std in STD)
            return Facts("mean-std", "none", shape, scale=scale, shift=MEAN, vae_range=ZERO_TO_ONE)
        return Facts("mean-std", "none", shape, scale=(STABLE_DIFFUSION,), vae_range=self.vae_range)

    def read(self, entry: Entry) -> NDArray[np.float32]:
        what = self.naming(entry)
        values = floats(npy(content(self._files(), entry), what), what)
        if values.ndim != 3 or len(values) % 2:
            raise UserError(f"{what}: has shape {values.shape}; EDM2's latents are (2C, h, w), mean and deviation")
        return values.reshape(1, 2, -1, *values.shape[1:])

    def naming(self, entry: Entry) -> str:
        return self._files().naming(entry)

    def _files(self) -> ImageFolder | ZipOfImages:
        suffixes = (".npy", ".json")
        return ImageFolder(self.path, suffixes=suffixes) if self.path.is_dir() else ZipOfImages(self.path, suffixes)

    def _labels(self, files: list[Entry]) -> dict[str, int] | None:
        """Return the labels by names; None if the file says that there are none."""
        what = f"{self.path}: {LABELS}"
        if not files:
            raise UserError(f"{what}: is missing; it is written last, so these latents may not be all")
        try:
            rows: Any = json.loads(content(self._files(), files[0], _MOST_OF_LABELS))["labels"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise UserError(f'{what}: is not of the form {{"labels": [[name, class], ...]}}') from None
        if rows is None:
            return None
        labels: dict[str, int] = {}
        for number, row in enumerate(rows if isinstance(rows, list) else [rows]):
            match row:
                case [str(name), int(label)] if not isinstance(label, bool) and 0 <= label < MAX_CLASSES:
                    labels[name] = label
                case _:
                    raise UserError(
                        f"{what}: labels[{number}]: allowed: [name, class], a class from 0 to {MAX_CLASSES - 1}"
                    )
        return labels

    def _check_range(self, found: Found) -> None:
        """Raise UserError if the means of the channels are not as they are with pixels in that range."""
        count = min(SAMPLED, len(found.entries))
        means = np.mean(
            [
                self.read(found.entries[i * len(found.entries) // count])[0, 0].mean(axis=(1, 2), dtype=np.float64)
                for i in range(count)
            ],
            axis=0,
        )
        away = float(np.sqrt(np.square((means - MEAN) / STD).mean()))
        if (away <= LIKE_EDM2) != (self.vae_range == ZERO_TO_ONE):
            assert self.vae_range is not None
            shown = ", ".join(f"{mean:.2f}" for mean in means)
            low, high = self.vae_range
            raise UserError(
                f"{self.path}: --vae-range {low:g},{high:g}: the means of the channels are {shown}, "
                f"{away:.2f} standard deviations from {MEAN}, which EDM2 states for pixels in 0 .. 1: "
                f"{'too far for that range' if self.vae_range == ZERO_TO_ONE else 'they look like those'}"
            )
