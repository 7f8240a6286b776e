"""LightningDiT's shards, `latents_rankRR_shardSSS.safetensors`: `latents` and `latents_flip` (n, C, h, w), `labels`.

They are posterior samples of an image and of its mirror image; `latents_stats.pt` has the channels' means and standard
deviations, by which they are whitened when they are loaded. Rank r of W encoded images r, r + W, ...
"""

import re
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from diffussm.data.latent_sources.base import Facts, latent_shape
from diffussm.data.latent_sources.padding import ADDED, duplicates, stated_number
from diffussm.data.latent_sources.shards import Shard, shard
from diffussm.data.latent_sources.tensors import tensors
from diffussm.data.sources.base import Entry, Found
from diffussm.data.sources.files import modified, read_file
from diffussm.errors import UserError

FILE = re.compile(r"latents_rank(\d+)_shard(\d+)\.safetensors")
STATISTICS = "latents_stats.pt"
_MOST = 1 << 24  # bytes of the statistics


@dataclass(frozen=True)
class LightningDit:
    """The latents, rank by rank. `images`: how many images there were, if that is known."""

    path: Path
    images: int | None = None
    kind: ClassVar[str] = "lightningdit"

    def listed(self) -> Found:
        ranks = self._ranks()
        labels = [np.concatenate([part.labels() for part in shards]) for shards in ranks]
        classes = int(max(of_rank.max() for of_rank in labels)) + 1
        added = self._added(ranks, labels, classes)
        entries = list[Entry]()
        for rank, (shards, of_rank) in enumerate(zip(ranks, labels, strict=True)):
            places = [
                (f"{part.path.name}/{row:05d}", part.row_size, row) for part in shards for row in range(part.count)
            ]
            kept = len(places) - (rank >= len(ranks) - added)
            entries += [
                Entry(name, size, label, (row,))
                for (name, size, row), label in zip(places[:kept], of_rank[:kept].tolist(), strict=True)
            ]
        skipped = {ADDED: added} if added else {}
        files = (part.path for shards in ranks for part in shards)
        return Found(entries, tuple(map(str, range(classes))), skipped, modified(files))

    def facts(self, found: Found) -> Facts:
        flips, *shape = self.read(found.entries[0]).shape
        latents = latent_shape(tuple(shape), self.naming(found.entries[0]))
        facts = Facts("sample", "paired" if flips == 2 else "none", latents)
        path = self.path / STATISTICS
        if not path.exists():
            return facts
        mean, std = (
            values.reshape(-1).tolist() for values in tensors(read_file(path, _MOST), ("mean", "std"), str(path))
        )
        if len(mean) != len(std) or len(mean) not in (1, latents[0]):
            raise UserError(f"{path}: has {len(mean)} means and {len(std)} deviations of {latents[0]} channels")
        if not np.isfinite([*mean, *std]).all() or min(std) <= 0:
            raise UserError(f"{path}: a mean is not finite, or a deviation not above 0")
        return replace(facts, scale=tuple(1 / value for value in std), shift=tuple(mean))

    def read(self, entry: Entry) -> NDArray[np.float32]:
        return shard(self.path / entry.name.rpartition("/")[0]).latents(entry.place[0])

    def naming(self, entry: Entry) -> str:
        return f"{self.path}/{entry.name.rpartition('/')[0]}: row {entry.place[0]}"

    def _ranks(self) -> list[list[Shard]]:
        """Return the shards of each rank in their order; UserError if one is missing."""
        numbers = defaultdict[int, dict[int, Path]](dict)
        for path in self.path.iterdir():
            if match := FILE.fullmatch(path.name):
                numbers[int(match[1])][int(match[2])] = path
        for rank in range(max(numbers) + 1):
            for number in range(max(numbers[rank], default=0) + 1):
                if number not in numbers[rank]:
                    raise UserError(f"{self.path}/latents_rank{rank:02d}_shard{number:03d}.safetensors: is missing")
        return [[shard(path) for _, path in sorted(numbers[rank].items())] for rank in sorted(numbers)]

    def _added(self, ranks: list[list[Shard]], labels: list[NDArray[np.int64]], classes: int) -> int:
        """Return how many of the last items, one of each of the last ranks, are duplicates."""
        counts = [len(of_rank) for of_rank in labels]
        images = stated_number(self.images, classes)
        if images == sum(counts):
            return 0
        if len(set(counts)) > 1:
            rank = next(rank for rank, count in enumerate(counts) if count != counts[0])
            raise UserError(
                f"{self.path}: rank {rank} has {counts[rank]:,} latents and rank 0 {counts[0]:,}, though all have "
                "equally many: shards are missing, or from several calls; if they are all, say so by --images N"
            )
        return duplicates(
            np.stack(labels, axis=1).reshape(-1),
            len(ranks),
            images,
            lambda at: _latent(ranks[at % len(ranks)], at // len(ranks)),
            str(self.path),
        )


def _latent(shards: list[Shard], position: int) -> NDArray[np.float32]:
    for part in shards:
        if position < part.count:
            return part.latents(position)[0]
        position -= part.count
    raise AssertionError(position)
