"""Reading of what a prepared data set stores of its images, each view compared with its SHA-256 before it is used."""

import hashlib
import io
import os
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffussm.data.images import Images
from diffussm.data.npz_header import HEADER_LIMIT, parse_header
from diffussm.data.pixels.base import Shape, spans
from diffussm.data.prepared.manifest import Manifest, StoredFile, content_digest, read_manifest, reading
from diffussm.errors import UserError
from diffussm.store.reading import open_regular

OPEN_FILES = 256  # shards kept open at once
_INSTANCES: "weakref.WeakSet[PreparedItems]" = weakref.WeakSet()


class DamagedShard(UserError):
    """An image of the shard at `path` is not the one that was written."""

    def __init__(self, path: Path, index: int):
        super().__init__(
            f"{path}: is damaged at image {index} of the data set; `diffussm data verify {path.parent}` lists all "
            "damage; restore the file or prepare the data set again, and resume"
        )
        self.path, self.index = path, index

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.index)


class PreparedItems:
    """Labels and stored items of a prepared data set, by index.

    Labels and hashes are read and checked at once, items when they are wanted. A file that is missing, damaged or
    unreadable is a UserError that names it.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.manifest: Manifest = read_manifest(folder)
        self.count = self.manifest.count
        self.labels: NDArray[np.int64] = self._array(self.manifest.labels, "<i8", (self.count,))
        hashes = (self.count * self.manifest.views, 32)
        self.view_sha256: NDArray[np.uint8] = self._array(self.manifest.image_sha256, "|u1", hashes)
        self._check_digest()
        self._views = self.manifest.views
        self._name = "pixels" if self.manifest.kind == "pixels" else "latents"
        self._ends = np.cumsum([shard.images for shard in self.manifest.shards])
        self._open: OrderedDict[int, tuple[io.FileIO, int]] = OrderedDict()  # shard -> file, bytes of its header
        weakref.finalize(self, _close_all, self._open)
        self._lock = Lock()
        _INSTANCES.add(self)

    @property
    def sha256(self) -> str:
        """The digest of the content."""
        return self.manifest.digest

    def read(self, indices: NDArray[np.int64], views: NDArray[np.int64] | int, out: NDArray[Any]) -> None:
        """Read a view of each of these images, 0 .. count - 1, in this order into the rows of `out`."""
        shards = np.searchsorted(self._ends, indices, side="right")
        stored = indices * self._views + views
        with self._lock:
            for row in np.argsort(indices, kind="stable"):  # in the order of the file
                self._read(int(shards[row]), int(stored[row]), out[row])

    def _read(self, shard: int, view: int, out: NDArray[Any]) -> None:
        """Read the view, counted through the data set, into `out` and compare it with its hash."""
        path = self.folder / self.manifest.shards[shard].arrays[self._name].file
        file, header = self._opened(shard, path)
        first = (int(self._ends[shard]) - self.manifest.shards[shard].images) * self._views
        with reading(path):
            read = os.preadv(file.fileno(), [out.data.cast("B")], header + (view - first) * out.nbytes)
        if read != out.nbytes or hashlib.sha256(out.data).digest() != self.view_sha256[view].tobytes():
            raise DamagedShard(path, view // self._views)

    def _opened(self, shard: int, path: Path) -> tuple[io.FileIO, int]:
        if shard in self._open:
            self._open.move_to_end(shard)
            return self._open[shard]
        if len(self._open) >= OPEN_FILES:
            self._open.popitem(last=False)[1][0].close()
        with reading(path):
            file = io.FileIO(os.open(path, os.O_RDONLY | os.O_NONBLOCK))  # does not wait for the writer of a pipe
            header = header_size(
                file, self.manifest.dtype, (self.manifest.shards[shard].images, *self.manifest.item_shape), path
            )
        self._open[shard] = file, header
        return file, header

    def _array(self, stored: StoredFile, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
        """Return a whole array of the set."""
        path = self.folder / stored.file
        with reading(path), open_regular(path, lambda what: UserError(f"{path}: {what}")) as file:
            file.seek(header_size(file, dtype, shape, path))
            content = file.read()
        if len(content) % np.dtype(dtype).itemsize:
            raise UserError(f"{path}: is damaged: it is cut short; {Manifest.repair}")
        array = np.frombuffer(content, dtype=dtype)
        if array.size != np.prod(shape):
            raise UserError(f"{path}: is damaged: it has {array.size} values, expected {np.prod(shape)}")
        return array.reshape(shape)

    def _check_digest(self) -> None:
        m = self.manifest
        shape = (m.channels, m.image_size, m.image_size)
        hashes, labels = self.view_sha256.data, self.labels.data
        found = content_digest(m.kind, shape, len(m.classes), hashes, labels, m.flips, m.latents)
        if found != m.digest:
            raise UserError(
                f"{self.folder}: {m.labels.file} or {m.image_sha256.file} is damaged: the content has digest "
                f"{found[:12]}..., the manifest states {m.digest[:12]}...; {Manifest.repair}"
            )


class PreparedImages(PreparedItems):
    """The images and labels of a prepared data set of pixels, as `Pixels` and by index. UserError for latents."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        if self.manifest.kind != "pixels":
            raise UserError(f"{folder}: holds latents, not images")
        side = self.manifest.image_size
        self.shape: Shape = (self.manifest.channels, side, side)

    def take(self, indices: Iterable[int] | NDArray[np.int64]) -> Images:
        """Return the images of these indices, 0 .. count - 1, in this order."""
        chosen = np.asarray(indices if isinstance(indices, np.ndarray) else list(indices), dtype=np.int64)
        pixels = np.empty((len(chosen), *self.shape), dtype=np.uint8)
        self.read(chosen, 0, pixels)
        return Images(pixels, self.labels[chosen])

    def batches(self, size: int, start: int = 0, stop: int | None = None) -> Iterator[NDArray[np.uint8]]:
        for first, last in spans(self.count, size, start, stop):
            yield self.take(np.arange(first, last)).pixels


def header_size(file: io.FileIO, dtype: str, shape: tuple[int, ...], path: Path) -> int:
    """Return the bytes of an .npy file before its data; UserError if that is not an array of this type and shape."""
    header = parse_header(os.pread(file.fileno(), HEADER_LIMIT, 0), str(path))
    if (header.shape, header.fortran, header.dtype.str) != (shape, False, dtype):
        raise UserError(
            f"{path}: is damaged: it holds {header.dtype} {header.shape}, expected {np.dtype(dtype)} {shape}"
        )
    return header.size


def _replace_locks() -> None:
    """Replace locks that a thread held, which a fork leaves behind."""
    for items in _INSTANCES:
        items._lock = Lock()


os.register_at_fork(after_in_child=_replace_locks)


def _close_all(opened: OrderedDict[int, tuple[io.FileIO, int]]) -> None:
    for file, _ in opened.values():
        file.close()
