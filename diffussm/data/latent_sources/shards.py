"""The latents of one safetensors file, read row by row."""

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diffussm.data.sources.base import MAX_CLASSES
from diffussm.errors import UserError
from diffussm.store.integrity.safetensors_header import LENGTH_BYTES, MAX_HEADER, TensorEntry, parse
from diffussm.store.reading import open_regular

LATENTS = ("latents", "latents_flip")
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_INTEGERS = {"I64": "<i8", "I32": "<i4"}


@dataclass(frozen=True)
class Shard:
    """Where the tensors of a file lie. UserError for one that is damaged, or holds none."""

    path: Path
    start: int  # of the tensors
    tensors: dict[str, TensorEntry]

    @property
    def count(self) -> int:
        return self.tensors["labels"].shape[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """(F, C, h, w): of the latents of an image and of its mirror image."""
        return sum(name in self.tensors for name in LATENTS), *self.tensors["latents"].shape[1:]

    @property
    def row_size(self) -> int:
        """Bytes of the latents of an image."""
        return sum(self.tensors[name].size for name in LATENTS if name in self.tensors) // self.count

    def labels(self) -> NDArray[np.int64]:
        entry = self.tensors["labels"]
        labels = np.frombuffer(self._bytes(entry.start, entry.size), _INTEGERS[entry.dtype]).astype(np.int64)
        if labels.min() < 0 or labels.max() >= MAX_CLASSES:
            raise UserError(
                f"{self.path}: labels are {labels.min()} .. {labels.max()}; allowed: 0 .. {MAX_CLASSES - 1}"
            )
        return labels

    def latents(self, row: int) -> NDArray[np.float32]:
        """Return the latents of an image, (F, C, h, w)."""
        return np.stack([self._row(self.tensors[name], row) for name in LATENTS if name in self.tensors])

    def _row(self, entry: TensorEntry, row: int) -> NDArray[np.float32]:
        size = entry.size // entry.shape[0]
        values = np.frombuffer(self._bytes(entry.start + row * size, size), _DTYPES[entry.dtype])
        if entry.dtype == "BF16":
            values = (values.astype("<u4") << 16).view("<f4")  # its upper half
        with np.errstate(over="ignore"):
            return values.reshape(entry.shape[1:]).astype(np.float32)

    def _bytes(self, start: int, size: int) -> bytes:
        with open_regular(self.path, lambda what: UserError(f"{self.path}: {what}")) as file:
            file.seek(self.start + start)
            content = file.read(size)
        if len(content) != size:
            raise UserError(f"{self.path}: is cut short")
        return content


def shard(path: Path) -> Shard:
    """Return the shard at `path`, read again only if it was changed."""
    status = path.stat()
    return _shard(path, status.st_ino, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=1024)
def _shard(path: Path, *_version: int) -> Shard:
    with open_regular(path, lambda what: UserError(f"{path}: {what}")) as file:
        size, length = path.stat().st_size, int.from_bytes(file.read(LENGTH_BYTES), "little")
        if length > min(size, MAX_HEADER):
            raise UserError(f"{path}: is damaged or not a safetensors file: its header would have {length:,} bytes")
        try:
            _, entries = parse(file.read(length), size - LENGTH_BYTES - length)
        except ValueError as error:
            raise UserError(f"{path}: is damaged or not a safetensors file: {error}") from None
    tensors = {entry.name: entry for entry in entries}
    labels, latents = tensors.get("labels"), tensors.get("latents")
    if labels is None or latents is None:
        raise UserError(f"{path}: has no tensors latents and labels, which LightningDiT's files have")
    if labels.dtype not in _INTEGERS or len(labels.shape) != 1 or not labels.size:
        raise UserError(f"{path}: labels are {labels.dtype} {labels.shape}; needed are I64 (n,), one or more")
    for name in LATENTS:
        entry = tensors.get(name, latents)
        if entry.dtype not in _DTYPES or len(entry.shape) != 4 or entry.shape[0] != labels.shape[0]:
            raise UserError(
                f"{path}: {name} are {entry.dtype} {entry.shape}; needed is floating point ({labels.shape[0]}, C, h, w)"
            )
        if entry.shape != latents.shape:
            raise UserError(f"{path}: {name} have shape {entry.shape}, latents {latents.shape}")
    return Shard(path, LENGTH_BYTES + length, tensors)
