"""An .npz of samples in ADM's format: `arr_0`, uint8 (N, H, W, C), and labels in `arr_1` or none."""

import functools
import threading
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from diffussm.data.npz_header import open_archive, read_header
from diffussm.data.pixels.npz import NpzPixels, read_arrays
from diffussm.data.sources.base import MAX_CLASSES, Broken, Entry, Found, check_count
from diffussm.errors import UserError

_BATCH = 64
_KEPT = 2  # batches


@dataclass(frozen=True)
class NpzSamples:
    """The images of an .npz, in its order. Of a compressed one they are quickly read in this order only."""

    path: Path
    kind: ClassVar[str] = "npz"

    @property
    def shape(self) -> tuple[int, int, int]:
        return _reader(self.path).pixels.shape

    def listed(self) -> Found:
        _reader.cache_clear()
        pixels = _reader(self.path).pixels
        check_count(pixels.count, self.path)
        labels, crc = _labels(self.path, pixels.count)
        classes = tuple(map(str, range(int(labels.max()) + 1))) if labels is not None else ()
        size = int(np.prod(pixels.shape))
        return Found(
            [
                Entry(f"{number:06d}", size, None if labels is None else int(labels[number]), (number, crc))
                for number in range(pixels.count)
            ],
            classes,
            {},
        )

    def read(self, entry: Entry) -> NDArray[np.uint8]:
        return _reader(self.path).image(entry.place[0])

    def naming(self, entry: Entry) -> str:
        return f"{self.path}: image {entry.place[0]}"


class _Reader:
    """An open .npz, and the images that were last read. Threads may ask for them, a little out of order too."""

    def __init__(self, path: Path):
        self.pixels = NpzPixels(path)
        self._lock = threading.Lock()
        self._last_batches: dict[int, NDArray[np.uint8]] = {}
        self._batches, self._next = self.pixels.batches(_BATCH), 0

    def image(self, number: int) -> NDArray[np.uint8]:
        """Return image `number`, (H, W, C)."""
        position, place = divmod(number, _BATCH)
        with self._lock:
            if position not in self._last_batches:
                self._read(position)
            return self._last_batches[position][place].transpose(1, 2, 0)

    def _read(self, position: int) -> None:
        if not self._next <= position < self._next + 4:
            self._batches, self._next = self.pixels.batches(_BATCH, position * _BATCH), position
        while self._next <= position:
            batch = next(self._batches, None)
            if batch is None:
                raise Broken("is missing")
            self._last_batches[self._next] = batch
            self._next += 1
            if len(self._last_batches) > _KEPT:
                del self._last_batches[next(iter(self._last_batches))]


@functools.lru_cache(maxsize=1)
def _reader(path: Path) -> _Reader:
    return _Reader(path)


def _labels(path: Path, count: int) -> tuple[NDArray[np.int64] | None, int]:
    """Return the labels, if there are any, and the CRC of the images."""
    what = f"{path}: arr_1"
    with open_archive(path) as file, zipfile.ZipFile(file) as archive:
        crc = archive.getinfo("arr_0.npy").CRC
        if "arr_1.npy" not in archive.namelist():
            return None, crc
        header = read_header(archive, archive.getinfo("arr_1.npy"), what)
    if header.shape != (count,) or header.dtype.kind not in "iu":
        raise UserError(f"{what}: is {header.dtype} {header.shape}; labels are one whole number for each of {count}")
    labels = read_arrays(path, ["arr_1"])["arr_1"]
    if labels.min() < 0 or labels.max() >= MAX_CLASSES:
        raise UserError(f"{what}: its labels are {labels.min()} .. {labels.max()}; allowed: 0 .. {MAX_CLASSES - 1}")
    return labels.astype(np.int64), crc
