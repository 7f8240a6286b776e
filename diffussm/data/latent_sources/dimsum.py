"""DiMSUM's memory maps: `*feature*.dat`, float32 (2N, 4, s, s), and `*label*.dat`, int64 (2N,), without headers.

Item i + N is of the mirror image of item i. Each is one posterior sample, scaled.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from diffussm.data.latent_sources.base import STABLE_DIFFUSION, Facts, latent_shape
from diffussm.data.sources.base import MAX_CLASSES, Entry, Found
from diffussm.data.sources.files import modified, read_file
from diffussm.errors import UserError
from diffussm.store.reading import open_regular

CHANNELS = 4
_MOST_OF_LABELS = 1 << 30  # bytes


class _Maps(NamedTuple):
    features: Path
    labels: Path
    images: int  # N
    side: int

    @property
    def item(self) -> int:
        """Bytes of a latent."""
        return CHANNELS * self.side**2 * 4


@dataclass(frozen=True)
class Dimsum:
    """The pairs in the order of the file."""

    path: Path
    kind: ClassVar[str] = "dimsum"

    def listed(self) -> Found:
        maps = self._maps()
        labels = np.frombuffer(read_file(maps.labels, _MOST_OF_LABELS), dtype="<i8").reshape(2, maps.images)
        if (different := np.flatnonzero(labels[0] != labels[1])).size:
            first = int(different[0])
            raise UserError(
                f"{maps.labels}: labels {first} and {first + maps.images} differ, though they are of one image"
            )
        if labels.min() < 0 or labels.max() >= MAX_CLASSES:
            raise UserError(
                f"{maps.labels}: its labels are {labels.min()} .. {labels.max()}; allowed: 0 .. {MAX_CLASSES - 1}"
            )
        entries = [Entry(f"{at:07d}", 2 * maps.item, label, (at,)) for at, label in enumerate(labels[0].tolist())]
        return Found(entries, tuple(map(str, range(int(labels.max()) + 1))), {}, modified([maps.features]))

    def facts(self, found: Found) -> Facts:
        shape = latent_shape(self.read(found.entries[0]).shape[1:], str(self.path))
        return Facts("sample", "paired", shape, scaled=True, scale=(STABLE_DIFFUSION,))

    def read(self, entry: Entry) -> NDArray[np.float32]:
        maps, content = self._maps(), b""
        with open_regular(maps.features, lambda what: UserError(f"{maps.features}: {what}")) as file:
            for at in (entry.place[0], entry.place[0] + maps.images):
                file.seek(at * maps.item)
                content += file.read(maps.item)
        return np.frombuffer(content, dtype="<f4").reshape(2, CHANNELS, maps.side, maps.side).astype(np.float32)

    def naming(self, entry: Entry) -> str:
        return f"{self._maps().features}: image {entry.place[0]}"

    def _maps(self) -> _Maps:
        features, labels = memory_maps(self.path)
        items, odd = divmod(labels.stat().st_size, 8)
        if odd or items % 2 or not items:
            raise UserError(f"{labels}: has {labels.stat().st_size:,} bytes; needed are 2 N int64")
        size = features.stat().st_size
        side = math.isqrt(size // (items * CHANNELS * 4))
        if not side or items * CHANNELS * 4 * side**2 != size:
            raise UserError(
                f"{features}: has {size:,} bytes, which are no {items:,} latents of {CHANNELS} channels, as high as "
                f"wide; so many labels {labels.name} has"
            )
        return _Maps(features, labels, items // 2, side)


def memory_maps(path: Path) -> tuple[Path, Path]:
    """Return the files of latents and of labels; UserError if there is not one of each."""
    files = sorted(path.glob("*.dat"))
    features, labels = ([file for file in files if word in file.name] for word in ("feature", "label"))
    if len(features) != 1 or len(labels) != 1:
        raise UserError(f"{path}: needed are one .dat with `feature` in its name and one with `label`, as DiMSUM's")
    return features[0], labels[0]
