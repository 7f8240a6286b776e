"""Which layout of latents lies at a path."""

import os
from collections.abc import Iterator
from pathlib import Path

from diffussm.data.latent_sources import edm2, fast_dit, lightningdit
from diffussm.data.latent_sources.arrays import OBJECTS
from diffussm.data.latent_sources.base import LatentSource
from diffussm.data.latent_sources.ddt import Ddt
from diffussm.data.latent_sources.dimsum import Dimsum
from diffussm.data.latent_sources.edm2 import Edm2
from diffussm.data.latent_sources.fast_dit import FastDit
from diffussm.data.latent_sources.lightningdit import LightningDit
from diffussm.data.latent_sources.mar import Mar
from diffussm.data.npz_header import HEADER_LIMIT, parse_header
from diffussm.errors import UserError
from diffussm.store.reading import open_regular

READ = (
    "fast-DiT's *_features and *_labels, EDM2's and REPA's img-mean-std-*.npy (folder or zip), MAR's *.npz, "
    "LightningDiT's latents_rank*_shard*.safetensors, DDT's *.pt, DiMSUM's *.dat"
)
REPA = "vae-sd"  # the folder of latents beside that of images


def open_latents(path: Path, vae_range: tuple[float, float] | None = None, images: int | None = None) -> LatentSource:
    """Return the latents at `path`, of whatever layout; UserError if there are none of a layout that is read.

    `vae_range` is that of the pixels that were encoded, `images` the number of them, where the files do not tell.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    if path.is_file():
        return _in_file(path, vae_range)
    if not path.is_dir():
        raise UserError(f"{path}: is neither a regular file nor a folder; latents that are read: {READ}")
    names = sorted(os.listdir(path))
    if any(name.endswith(fast_dit.LABELS) for name in names):
        return FastDit(path, images)
    if any(map(lightningdit.FILE.fullmatch, names)):
        return LightningDit(path, images)
    if any(name.endswith(".dat") for name in names):
        return Dimsum(path)
    if REPA in names:
        return Edm2(path / REPA, vae_range)
    for name in _in_subfolders(path, names):
        if edm2.NAME.fullmatch(name):
            return Edm2(path, vae_range)
        if name.endswith(".npz") and not name.endswith(".npy.npz"):
            return Mar(path)
        if name.endswith(".pt"):
            return Ddt(path)
    if array := next((name for name in _in_subfolders(path, names) if name.endswith(".npy")), ""):
        _refuse_objects(path / array)
    raise UserError(f"{path}: holds no latents of a layout that is read: {READ}")


def _in_file(path: Path, vae_range: tuple[float, float] | None) -> Edm2:
    with path.open("rb") as file:
        if file.read(2) != b"PK":
            raise UserError(f"{path}: is none of what is read: {READ}")
    return Edm2(path, vae_range)


def _in_subfolders(path: Path, names: list[str]) -> Iterator[str]:
    """Yield the files of a folder, and of those in it, by their relative names."""
    yield from names
    for name in names:
        if not name.startswith(".") and (path / name).is_dir():
            for file in sorted(os.listdir(path / name)):
                yield f"{name}/{file}"


def _refuse_objects(path: Path) -> None:
    with open_regular(path, lambda what: UserError(f"{path}: {what}")) as file:
        if parse_header(file.read(HEADER_LIMIT), str(path)).dtype.hasobject:
            raise UserError(f"{path}: {OBJECTS}")
