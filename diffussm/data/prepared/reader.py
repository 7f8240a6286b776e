"""Reading of what a prepared data set stores of its images, each view compared with its SHA-256 before it is used."""

import contextlib
import hashlib
import io
import math
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
        self._check_labels()
        self._check_size()
        self._views = self.manifest.views
        self._ends = np.cumsum([shard.images for shard in self.manifest.shards])
        self._open: OrderedDict[int, tuple[io.FileIO, int]] = OrderedDict()  # shard -> file, bytes of its header
        weakref.finalize(self, _close_all, self._open)
        self._lock = Lock()
        _INSTANCES.add(self)

    @property
    def sha256(self) -> str:
        """The digest of the content."""
        return self.manifest.digest

    def read(self, indices: NDArray[np.int64], views: NDArray[np.int64] | int = 0) -> NDArray[Any]:
        """Return a view of each of these images, 0 .. count - 1, in this order, as an array that is the caller's."""
        shards = np.searchsorted(self._ends, indices, side="right")
        stored = indices * self._views + views
        with self._lock:
            for shard in shards[:1]:  # its header is compared before there is memory of that shape
                self._opened(int(shard))
            out = np.empty((len(indices), *self.view_shape), dtype=self.manifest.dtype)
            for row in np.argsort(indices, kind="stable"):  # in the order of the file
                self._read(int(shards[row]), int(stored[row]), out[row])
        return out

    @property
    def view_shape(self) -> tuple[int, ...]:
        """The shape of what has a SHA-256 of its own."""
        shape = self.manifest.item_shape
        return shape if self.manifest.kind == "pixels" else shape[1:]

    @property
    def item_bytes(self) -> int:
        """Bytes of a value."""
        return np.dtype(self.manifest.dtype).itemsize

    def views_of(self, shard: int) -> NDArray[np.uint8]:
        """Return the SHA-256 of each view of a shard."""
        first = (int(self._ends[shard]) - self.manifest.shards[shard].images) * self._views
        return self.view_sha256[first : int(self._ends[shard]) * self._views]

    def header_of(self, shard: int, file: io.FileIO, path: Path) -> int:
        """Return the bytes before the values of a shard's open file; UserError if it is of another type or shape."""
        shape = (self.manifest.shards[shard].images, *self.manifest.item_shape)
        return header_size(file, self.manifest.dtype, shape, path)

    def _read(self, shard: int, view: int, out: NDArray[Any]) -> None:
        """Read the view, counted through the data set, into `out` and compare it with its hash."""
        path = self._path(shard)
        file, header = self._opened(shard)
        first = (int(self._ends[shard]) - self.manifest.shards[shard].images) * self._views
        with reading(path):
            read = os.preadv(file.fileno(), [out.data.cast("B")], header + (view - first) * out.nbytes)
        if read != out.nbytes or hashlib.sha256(out.data).digest() != self.view_sha256[view].tobytes():
            raise DamagedShard(path, view // self._views)

    def _path(self, shard: int) -> Path:
        return self.folder / self.manifest.shards[shard].arrays[self.manifest.array].file

    def _opened(self, shard: int) -> tuple[io.FileIO, int]:
        if shard in self._open:
            self._open.move_to_end(shard)
            return self._open[shard]
        if len(self._open) >= OPEN_FILES:
            self._open.popitem(last=False)[1][0].close()
        path = self._path(shard)
        with reading(path):
            file = io.FileIO(os.open(path, os.O_RDONLY | os.O_NONBLOCK))  # does not wait for the writer of a pipe
            try:
                header = self.header_of(shard, file, path)
            except BaseException:
                file.close()
                raise
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

    def _check_size(self) -> None:
        """Raise UserError if the images cannot be as large as the manifest says: memory is taken by what it says."""
        size = math.prod(self.manifest.item_shape) * self.item_bytes
        for shard in range(len(self.manifest.shards)):
            with contextlib.suppress(OSError):  # whoever reads it will say why
                if (found := self._path(shard).stat().st_size) < size:
                    raise UserError(
                        f"{self._path(shard)}: has {found:,} bytes, and the manifest says {size:,} of one image; "
                        f"{Manifest.repair}"
                    )
                return

    def _check_labels(self) -> None:
        most = max(len(self.manifest.classes) - 1, 0)
        outside = np.flatnonzero((self.labels < 0) | (self.labels > most))
        if outside.size:
            path, first = self.folder / self.manifest.labels.file, outside[0]
            raise UserError(
                f"{path}: is damaged: image {first} has label {self.labels[first]}; the manifest has "
                f"{len(self.manifest.classes) or 'no'} classes"
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
        return Images(self.read(chosen), self.labels[chosen])

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
