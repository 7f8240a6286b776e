"""idx files (http://yann.lecun.com/exdb/mnist/): MNIST, Fashion-MNIST, EMNIST and others of their form, .gz or not."""

import functools
import math
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from diffussm.data.sources.base import MAX_CLASSES, Entry, Found, check_count, printable
from diffussm.data.sources.files import opened, read_up_to
from diffussm.errors import UserError

IMAGES_FILE = re.compile(r"(.*)images([-.])idx[34]-ubyte(\.gz)?")
_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4"}
_MOST_SIDES = 4  # (N, H, W, C)
_GZIP_RATIO = 1100  # to which nothing is compressed


@dataclass(frozen=True)
class IdxFiles:
    """The images of a file, with the labels in the file whose name goes with it, if there is one."""

    path: Path
    kind: ClassVar[str] = "idx"

    @property
    def shape(self) -> tuple[int, int, int]:
        _, height, width, channels = _images(self.path).shape
        return channels, height, width

    def listed(self) -> Found:
        images, labels = _images(self.path), self._labels()
        classes = tuple(map(str, range(int(labels.max()) + 1))) if labels is not None else ()
        entries = []
        for number, image in enumerate(images):
            label = None if labels is None else int(labels[number])
            entries.append(Entry(f"{number:05d}", image.nbytes, label, (number, zlib.crc32(image))))
        return Found(entries, classes, {})

    def read(self, entry: Entry) -> NDArray[np.uint8]:
        return _images(self.path)[entry.place[0]]

    def naming(self, entry: Entry) -> str:
        return f"{self.path}: image {printable(entry.name)}"

    def _labels(self) -> NDArray[np.int64] | None:
        match = IMAGES_FILE.fullmatch(self.path.name)
        if not match:
            return None
        stem = f"{match[1]}labels{match[2]}idx1-ubyte"
        path = next((path for end in ("", ".gz") if (path := self.path.with_name(stem + end)).exists()), None)
        if path is None:
            return None
        labels = _array(path).astype(np.int64)
        if labels.shape != (count := len(_images(self.path)),):
            raise UserError(f"{path}: holds labels of shape {labels.shape}, for {count} images in {self.path.name}")
        if labels.min() < 0 or labels.max() >= MAX_CLASSES:
            raise UserError(f"{path}: a label is {labels.min()} or {labels.max()}; allowed: 0 .. {MAX_CLASSES - 1}")
        return labels


def images_file(folder: Path, split: str) -> Path | None:
    """Return the file of a folder with the images of that split; None if no file has images.

    UserError if there are several of the split, or none."""
    files = sorted(path for path in folder.iterdir() if IMAGES_FILE.fullmatch(path.name))
    if not files:
        return None
    words = ("t10k", "test") if split == "test" else (split,)
    chosen = [path for path in files if any(word in path.name for word in words)]
    if len(chosen) > 1 and len({path.name.removesuffix(".gz") for path in chosen}) == 1:
        return chosen[0]  # the same file, also compressed
    if len(chosen) != 1:
        names = ", ".join(printable(path.name) for path in chosen or files)
        raise UserError(f"{folder}: --split {split}: {len(chosen)} files of images go with it ({names}); give one file")
    return chosen[0]


@functools.lru_cache(maxsize=2)
def _images(path: Path) -> NDArray[np.uint8]:
    """Return the images, (N, H, W, C)."""
    array = _array(path)
    if array.dtype != np.uint8 or array.ndim not in (3, 4) or 0 in array.shape:
        raise UserError(f"{path}: holds {array.dtype} {array.shape}; images are unsigned bytes (N, H, W), one or more")
    check_count(len(array), path)
    array = array[..., None] if array.ndim == 3 else array
    if array.shape[3] not in (1, 3):
        raise UserError(f"{path}: its images have {array.shape[3]} channels; allowed: 1 or 3")
    return array


def _array(path: Path) -> NDArray[Any]:
    with opened(path) as (file, size):
        magic = read_up_to(file, 4)
        sides = read_up_to(file, 4 * magic[3]) if len(magic) == 4 else b""
        is_idx = magic[:2] == b"\0\0" and len(magic) == 4 and magic[2] in _TYPES and magic[3] <= _MOST_SIDES
        if not is_idx or not sides or len(sides) != 4 * magic[3]:
            raise UserError(f"{path}: is damaged or not an idx file")
        shape = tuple(int.from_bytes(sides[at : at + 4], "big") for at in range(0, len(sides), 4))
        kind = np.dtype(_TYPES[magic[2]])
        expected = math.prod(shape) * kind.itemsize
        content = read_up_to(file, expected + 1) if expected <= _GZIP_RATIO * size else b""
    if len(content) != expected:
        found = f"{'more' if len(content) > expected else 'fewer'} bytes of data"
        raise UserError(f"{path}: is damaged: its header says {kind} {shape}, and it has {found}")
    return np.frombuffer(content, kind).reshape(shape)
