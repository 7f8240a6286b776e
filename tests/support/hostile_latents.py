"""Makers of latents that no data set can be made of; each returns the arguments: the path, then options."""

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from tests.support import latent_files as files

Make = Callable[[Path], tuple[Any, ...]]
LABELS = [0, 1, 2]
FIRST = "imagenet256_features/0.npy"


def npy(array: Any) -> bytes:
    content = io.BytesIO()
    np.save(content, array, allow_pickle=True)
    return content.getvalue()


def with_file(make: Callable[[Path], Path], name: str, content: bytes | None, *options: str) -> Make:
    """The latents of `make`, with this in the place of the file; None: without it."""

    def made(tmp: Path) -> tuple[Any, ...]:
        path = make(tmp / "in")
        (path / name).unlink(missing_ok=True)
        if content is not None:
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
        return path, *options

    return made


def fast_dit(path: Path) -> Path:
    return files.fast_dit(path, files.latents(3), LABELS)


def edm2(path: Path) -> Path:
    return files.edm2(path, files.edm2_moments(30, whitened=True), [0, 1, 2] * 10)


def mar(path: Path) -> Path:
    return files.mar(path, files.latents(3, 8), files.latents(3, 8), LABELS)


def ddt(path: Path) -> Path:
    return files.ddt(path, files.latents(3), files.latents(3), LABELS)


def dimsum(path: Path) -> Path:
    return files.dimsum(path, files.latents(3), files.latents(3, seed=1), LABELS)


def lightningdit(path: Path) -> Path:
    files.lightningdit(path, files.latents(3), files.latents(3, seed=1), LABELS)
    files.statistics(path, [0.0] * 4, [1.0] * 4)
    return path


def with_options(make: Callable[[Path], Path], *options: Any) -> Make:
    return lambda tmp: (make(tmp / "in"), *options)


def with_classes(text: str) -> Make:
    def made(tmp: Path) -> tuple[Any, ...]:
        (tmp / "classes.txt").write_text(text)
        return fast_dit(tmp / "in"), "--classes", tmp / "classes.txt"

    return made


def a_file(name: str, content: bytes) -> Make:
    def made(tmp: Path) -> tuple[Any, ...]:
        (tmp / name).write_bytes(content)
        return (tmp / name,)

    return made


def empty(tmp: Path) -> tuple[Any, ...]:
    (tmp / "in").mkdir()
    return (tmp / "in",)


def pipe(tmp: Path) -> tuple[Any, ...]:
    fast_dit(tmp / "in")
    (tmp / "in" / FIRST).unlink()
    os.mkfifo(tmp / "in" / FIRST)
    return (tmp / "in",)


def cut_zip(tmp: Path) -> tuple[Any, ...]:
    path = files.edm2(tmp / "a.zip", files.edm2_moments(3, whitened=True), None)
    path.write_bytes(path.read_bytes()[:-30])
    return path, "--vae-range", "0,1"


def bomb() -> bytes:
    """An .npz of 100 kB that expands to 100 MB."""
    content = io.BytesIO()
    np.savez_compressed(content, moments=np.zeros((8, 1800, 1800), np.float32))
    return content.getvalue()


class Program:
    """Runs when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("unpickled",)


def pickled() -> bytes:
    content = io.BytesIO()
    torch.save({"mean": Program(), "logvar": Program()}, content)
    return content.getvalue()


def expanded() -> bytes:
    """Tensors of 64 GB, of which one value is stored."""
    content = io.BytesIO()
    torch.save({name: torch.ones(1).expand(4, 1 << 16, 1 << 16) for name in ("mean", "logvar")}, content)
    return content.getvalue()


def compressed() -> bytes:
    content, packed = io.BytesIO(), io.BytesIO()
    torch.save({"mean": torch.ones(4, 4, 4), "logvar": torch.ones(4, 4, 4)}, content)
    with zipfile.ZipFile(content) as archive, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as other:
        for name in archive.namelist():
            other.writestr(name, archive.read(name))
    return packed.getvalue()


def plain_pickle() -> bytes:
    return pickle.dumps({"mean": [0.0], "logvar": [0.0]})


def statistics(mean: list[float], std: list[float]) -> Make:
    def made(tmp: Path) -> tuple[Any, ...]:
        files.statistics(lightningdit(tmp / "in"), mean, std)
        return (tmp / "in",)

    return made


def safetensors(**tensors: torch.Tensor) -> Make:
    def made(tmp: Path) -> tuple[Any, ...]:
        (tmp / "in").mkdir()
        save_file(tensors, tmp / "in" / "latents_rank00_shard000.safetensors")
        return tmp / "in", "--scale", "1"

    return made
