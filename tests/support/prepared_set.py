"""A small prepared data set."""

import hashlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from diffussm.data.prepared.manifest import LatentFacts, Manifest, Source
from diffussm.data.prepared.writer import Content, write_manifest, write_shard


def noise_images(count: int = 20, shape: tuple[int, int, int] = (3, 8, 8), seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def latent_facts(**changes: Any) -> LatentFacts:
    """Facts of latents as Stable Diffusion's autoencoder makes them."""
    facts: dict[str, Any] = {
        "vae_sha256": "", "vae_range": (-1.0, 1.0), "scale": (0.18215,), "shift": (0.0,), "scaled": False,
        "decoded_size": 32, "baked": (), "dtype": "float32",
    }  # fmt: skip
    return LatentFacts(**{**facts, **changes})


def write_latents(
    folder: Path,
    items: NDArray[np.float32] | NDArray[np.float16],
    flips: Literal["none", "paired", "baked"] = "none",
    labels: NDArray[np.int64] | None = None,
    classes: tuple[str, ...] = (),
    per_shard: int = 7,
    **facts: Any,
) -> Manifest:
    """Write latents (N, F, 2, C, h, w), means and standard deviations, or samples (N, F, C, h, w) as a data set."""
    folder.mkdir(parents=True, exist_ok=True)
    starts = range(0, len(items), per_shard)
    return write_manifest(
        folder,
        [write_shard(folder, i, items[start : start + per_shard], "latents") for i, start in enumerate(starts)],
        content=Content(
            "mean-std" if items.ndim == 6 else "sample",
            (items.shape[-3], items.shape[-2], items.shape[-1]),
            "centre-crop 32",
            flips,
            latent_facts(dtype=items.dtype.name, **facts),
        ),
        labels=np.zeros(len(items), dtype=np.int64) if labels is None else labels,
        classes=classes,
        names=map(str, range(len(items))),
        source=source_of(len(items)),
        versions={"test": "1"},
    )


def source_of(count: int) -> Source:
    return Source(kind="test", listing_sha256=hashlib.sha256(b"").hexdigest(), taken=count, skipped={}, notes={})


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
        content=Content("pixels", (pixels.shape[1], pixels.shape[2], pixels.shape[3]), "none"),
        labels=np.zeros(len(pixels), dtype=np.int64) if labels is None else labels,
        classes=classes,
        names=map(str, range(len(pixels))),
        source=source_of(len(pixels)),
        versions={"test": "1"},
    )
