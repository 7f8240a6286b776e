"""CIFAR-10's binary version (https://www.cs.toronto.edu/~kriz/cifar.html): its folder, or its .tar.gz as downloaded."""

import functools
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from diffussm.data.sources.base import Entry, Found, printable
from diffussm.data.sources.files import read_file, reading
from diffussm.errors import UserError

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FILES = {"train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)), "test": ("test_batch.bin",)}
_RECORD = 1 + 3 * 32 * 32  # label, then the red, green and blue planes
_MAX_BYTES = 1 << 30  # of a file; the real ones have 30 MB


@dataclass(frozen=True)
class Cifar10:
    """The images of a split, in the order of the files."""

    path: Path
    split: Literal["train", "test"]
    kind: ClassVar[str] = "cifar10"
    shape: ClassVar[tuple[int, int, int]] = (3, 32, 32)

    def listed(self) -> Found:
        entries = []
        for file, records in zip(FILES[self.split], self._records, strict=True):
            for number, record in enumerate(records):
                if record[0] >= len(CLASSES):
                    raise UserError(
                        f"{self.path}: {file}: is damaged, or not of CIFAR-10: image {number} has label {record[0]}"
                    )
                place = (FILES[self.split].index(file), number, zlib.crc32(record))
                entries.append(Entry(f"{file}/{number:05d}", _RECORD, int(record[0]), place))
        return Found(entries, CLASSES, {})

    def read(self, entry: Entry) -> NDArray[np.uint8]:
        file, number, _ = entry.place
        return self._records[file][number, 1:].reshape(3, 32, 32).transpose(1, 2, 0)

    def naming(self, entry: Entry) -> str:
        return f"{self.path}: {printable(entry.name)}"

    @property
    def _records(self) -> tuple[NDArray[np.uint8], ...]:
        return _read(self.path, self.split)


@functools.lru_cache(maxsize=2)
def _read(path: Path, split: str) -> tuple[NDArray[np.uint8], ...]:
    contents = _from_folder(path, FILES[split]) if path.is_dir() else _from_tar(path, FILES[split])
    for file, content in contents.items():
        if not content or len(content) % _RECORD:
            raise UserError(
                f"{path}: {file}: is damaged: {len(content):,} bytes are not a number of records of {_RECORD:,}"
            )
    return tuple(np.frombuffer(contents[file], dtype=np.uint8).reshape(-1, _RECORD) for file in FILES[split])


def _from_folder(path: Path, files: tuple[str, ...]) -> dict[str, bytes]:
    return {file: read_file(path / file, _MAX_BYTES) for file in files}


def _from_tar(path: Path, files: tuple[str, ...]) -> dict[str, bytes]:
    contents: dict[str, bytes] = {}
    with reading(path, "a .tar.gz"), tarfile.open(path) as archive:
        for member in archive:
            name = member.name.rpartition("/")[2]
            if name in files and member.isfile():
                if member.size > _MAX_BYTES:
                    raise UserError(f"{path}: {name}: has {member.size:,} bytes, too many for a file of CIFAR-10")
                file = archive.extractfile(member)
                assert file is not None
                contents[name] = file.read()
    if missing := [file for file in files if file not in contents]:
        raise UserError(f"{path}: holds no {', '.join(missing)}; needed is the binary version of CIFAR-10")
    return contents
