"""A small prepared data set."""

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diffussm.data.prepared.manifest import Manifest, Source
from diffussm.data.prepared.writer import write_manifest, write_shard


def noise_images(count: int = 20, shape: tuple[int, int, int] = (3, 8, 8), seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def write_prepared(
    folder: Path,
    pixels: NDArray[np.uint8],
    labels: NDArray[np.int64] | None = None,
    classes: tuple[str, ...] = (),
    per_shard: int = 7,
) -> Manifest:
    """Write the images (N, C, H, W) as a prepared data set, `per_shard` in each shard."""
    folder.mkdir(parents=True, exist_ok=True)
    starts = range(0, len(pixels), per_shard)
    return write_manifest(
        folder,
        [write_shard(folder, i, pixels[start : start + per_shard]) for i, start in enumerate(starts)],
        shape=(pixels.shape[1], pixels.shape[2], pixels.shape[3]),
        labels=np.zeros(len(pixels), dtype=np.int64) if labels is None else labels,
        classes=classes,
        transform="none",
        names=map(str, range(len(pixels))),
        source=Source(
            kind="test", listing_sha256=hashlib.sha256(b"").hexdigest(), taken=len(pixels), skipped={}, notes={}
        ),
        versions={"test": "1"},
    )
