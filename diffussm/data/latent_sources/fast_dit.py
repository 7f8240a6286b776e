"""fast-DiT's features: `*_features/<stem>.npy` (1, C, h, w) and `*_labels/<stem>.npy` (1,), pairs by their stems.

Each is one posterior sample, scaled, of an image that was flipped at random. Stems are numbers, or, where several
processes wrote, `<step>_..._<rank>`.
"""

import itertools
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from diffussm.data.latent_sources.arrays import MOST, floats, npy
from diffussm.data.latent_sources.base import STABLE_DIFFUSION, Facts, latent_shape
from diffussm.data.latent_sources.padding import ADDED, duplicates, stated_number
from diffussm.data.sources.base import MAX_CLASSES, Entry, Found, printable
from diffussm.data.sources.files import modified, read_file
from diffussm.errors import UserError

FEATURES, LABELS = "_features", "_labels"
OVERWRITTEN = (
    "extract_features.py counts from 0 in each of its ranks: with several of them files overwrite each other, and a "
    "feature may then carry the label of another rank's image; extract again with one rank"
)
_RANK = re.compile(r"\d+_.*?(\d+)")
_MOST_OF_A_LABEL = 1 << 12  # bytes
MOST_PROCESSES = 64  # that wrote files of plain numbers, which do not say how many they were


@dataclass(frozen=True)
class FastDit:
    """The pairs in the order of the numbers in their stems. `images`: how many images there were, if that is known."""

    path: Path
    images: int | None = None
    kind: ClassVar[str] = "fast-dit"

    def listed(self) -> Found:
        features, labels = folders(self.path)
        sizes = _stems(features)
        for stem in _different(sizes, _stems(labels)):
            have, lack = (features, labels) if stem in sizes else (labels, features)
            raise UserError(f"{have}/{printable(stem)}.npy: has no partner in {lack}; latents and labels must be pairs")
        if not sizes:
            raise UserError(f"{features}: holds no .npy")
        stems = sorted(sizes, key=lambda stem: ([int(number) for number in re.findall(r"\d+", stem)], stem))
        found = np.array([_label(labels / f"{stem}.npy") for stem in stems], dtype=np.int64)
        entries = [Entry(stem, sizes[stem], int(label)) for stem, label in zip(stems, found, strict=True)]
        images = stated_number(self.images, int(found.max()) + 1)
        are_numbers = all(stem.isdecimal() for stem in stems)
        ranks = [match and int(match[1]) for match in map(_RANK.fullmatch, stems)]
        processes = max(rank for rank in ranks if rank is not None) + 1 if None not in ranks else 1
        most, known = (MOST_PROCESSES, None) if are_numbers else (processes, images)
        added = duplicates(found, most, known, lambda at: self.read(entries[at])[0], str(features))
        kept = entries[: len(entries) - added]
        if are_numbers:
            self._check_numbers(stems[: len(kept)], found[: len(kept)], images)
        classes, skipped = tuple(map(str, range(int(found.max()) + 1))), {ADDED: added} if added else {}
        return Found(kept, classes, skipped, modified(features / f"{stem}.npy" for stem in stems))

    def facts(self, found: Found) -> Facts:
        first = found.entries[0]
        shape = latent_shape(self.read(first).shape[1:], self.naming(first))
        return Facts("sample", "baked", shape, scaled=True, scale=(STABLE_DIFFUSION,))

    def read(self, entry: Entry) -> NDArray[np.float32]:
        path = folders(self.path)[0] / f"{entry.name}.npy"
        values = floats(npy(read_file(path, MOST), str(path)), str(path))
        if values.ndim != 4 or len(values) != 1:
            raise UserError(f"{path}: has shape {values.shape}; fast-DiT's latents are (1, C, h, w)")
        return values

    def naming(self, entry: Entry) -> str:
        return f"{folders(self.path)[0]}/{printable(entry.name)}.npy"

    def _check_numbers(self, stems: list[str], labels: NDArray[np.int64], images: int | None) -> None:
        """Raise UserError if some of the files that were written are not there, or not in the images' order."""
        features = folders(self.path)[0]
        if images is not None and len(stems) < images:
            raise UserError(f"{features}: holds {len(stems):,} of {images:,} images' latents: {OVERWRITTEN}")
        if images is not None and len(stems) > images:
            raise UserError(f"{features}: holds {len(stems):,} latents, of {images:,} images; --images N says how many")
        if images is None and int(stems[-1]) != len(stems) - 1:
            missing = next(number for number, stem in enumerate(stems) if int(stem) != number)
            raise UserError(f"{features}: {missing}.npy is missing; if so many images are all, say so by --images N")
        for (before, first), (after, second) in itertools.pairwise(zip(stems, labels.tolist(), strict=True)):
            if second < first:
                raise UserError(
                    f"{folders(self.path)[1]}: the label falls from {first} in {before}.npy to {second} in "
                    f"{after}.npy; extract_features.py takes images class by class, in the order of ImageFolder, so "
                    "these files are not of one call of it"
                )


def folders(path: Path) -> tuple[Path, Path]:
    """Return the folders of latents and of labels; UserError if there is not one of each."""
    names = sorted(name.removesuffix(FEATURES) for name in os.listdir(path) if name.endswith(FEATURES))
    pairs = [name for name in names if (path / f"{name}{LABELS}").is_dir()]
    if len(pairs) != 1:
        found = ", ".join(f"{printable(name)}{FEATURES}" for name in names) or "none"
        raise UserError(
            f"{path}: needed is one pair of folders, *{FEATURES} and *{LABELS}; of the former it has {found}"
        )
    return path / f"{pairs[0]}{FEATURES}", path / f"{pairs[0]}{LABELS}"


def _stems(folder: Path) -> dict[str, int]:
    """Return the stems of its .npy files, and their sizes."""
    with os.scandir(folder) as files:
        return {
            file.name.removesuffix(".npy"): file.stat().st_size
            for file in files
            if file.name.endswith(".npy") and not file.name.startswith(".")
        }


def _different(first: dict[str, int], second: dict[str, int]) -> list[str]:
    return sorted(first.keys() ^ second.keys())


def _label(path: Path) -> int:
    array = npy(read_file(path, _MOST_OF_A_LABEL), str(path))
    if array.dtype.kind not in "iu" or array.size != 1 or not 0 <= int(array.item()) < MAX_CLASSES:
        shown = array.item() if array.size == 1 else f"of shape {array.shape}"
        raise UserError(f"{path}: is {array.dtype} {shown}; a label is a whole number from 0 to {MAX_CLASSES - 1}")
    return int(array.item())
