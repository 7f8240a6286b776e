"""Makers of sources that no data set can be made of; each returns the arguments: the source, then options."""

import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.support.sources import (
    class_folders,
    encoded,
    noise,
    pack_tar,
    pack_zip,
    save,
    write_cifar,
    write_lsun,
    write_mnist,
)

PNG = encoded(Image.fromarray(noise(9, 9)))
S = ("--image-size", "8")
Make = Callable[[Path], tuple[Any, ...]]


def one_file(name: str, content: bytes, *options: str) -> Make:
    """A folder with a sound image and this one."""

    def make(tmp: Path) -> tuple[Any, ...]:
        save(tmp / "in" / "a.png", noise(9, 9))
        (tmp / "in" / name).write_bytes(content)
        return tmp / "in", *S, *options

    return make


def file(name: str, content: bytes, *options: str) -> Make:
    """A source that is a file."""

    def make(tmp: Path) -> tuple[Any, ...]:
        (tmp / name).write_bytes(content)
        return tmp / name, *options

    return make


def labels(name: str, text: str | bytes) -> Make:
    """Three classes of an image each, and a file of labels."""

    def make(tmp: Path) -> tuple[Any, ...]:
        (tmp / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return class_folders(tmp / "in", per_class=1), *S, "--labels", tmp / name

    return make


def classes(text: str) -> Make:
    def make(tmp: Path) -> tuple[Any, ...]:
        (tmp / "classes").write_text(text)
        return class_folders(tmp / "in", per_class=1), *S, "--classes", tmp / "classes"

    return make


def npz(**arrays: Any) -> Make:
    def make(tmp: Path) -> tuple[Any, ...]:
        np.savez(tmp / "a.npz", **arrays)
        return (tmp / "a.npz",)

    return make


def zipped(members: dict[str, bytes], change: Callable[[bytes], bytes] = bytes) -> Make:
    def make(tmp: Path) -> tuple[Any, ...]:
        path = pack_zip(tmp / "a.zip", members)
        path.write_bytes(change(path.read_bytes()))
        return path, *S

    return make


def encrypted(content: bytes) -> bytes:
    """The zip with the flag of encryption on its first member, in its directory."""
    at = content.index(b"PK\1\2") + 8
    return content[:at] + bytes([content[at] | 1]) + content[at + 1 :]


def method(content: bytes) -> bytes:
    at = content.index(b"PK\1\2") + 10
    return content[:at] + struct.pack("<H", 9) + content[at + 2 :]


def bomb(content: bytes) -> bytes:
    """The zip whose member claims to have 2 GB."""
    at = content.index(b"PK\1\2") + 24
    return content[:at] + struct.pack("<I", 2_000_000_000) + content[at + 4 :]


def twice(tmp: Path) -> tuple[Any, ...]:
    with zipfile.ZipFile(tmp / "a.zip", "w") as archive:
        archive.writestr("a.png", PNG)
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.png", PNG)
    return tmp / "a.zip", *S


def cifar(change: Callable[[Path], object], packed: bool = False) -> Make:
    def make(tmp: Path) -> tuple[Any, ...]:
        write_cifar(tmp / "c")
        change(tmp / "c")
        return (pack_tar(tmp / "c.tar.gz", tmp / "c", "c") if packed else tmp / "c",)

    return make


def mnist(images: bytes | None = None, its_labels: bytes | None = None) -> Make:
    def make(tmp: Path) -> tuple[Any, ...]:
        path = write_mnist(tmp / "m", np.zeros((3, 4, 4), np.uint8), np.zeros(3, np.uint8))
        if images is not None:
            path.write_bytes(images)
        if its_labels is not None:
            (tmp / "m" / "train-labels-idx1-ubyte").write_bytes(its_labels)
        return (tmp / "m",)

    return make


def lmdb_file(change: Callable[[bytes], bytes], value: bytes = bytes(3000), *options: str) -> Make:
    def make(tmp: Path) -> tuple[Any, ...]:
        data = write_lsun(tmp / "a_train_lmdb", {b"k": value}) / "data.mdb"
        data.write_bytes(change(data.read_bytes()))
        return tmp / "a_train_lmdb", *S, *options

    return make


def pickled(tmp: Path) -> tuple[Any, ...]:
    (tmp / "p").mkdir()
    (tmp / "p" / "data_batch_1").write_bytes(b"\x80\2}q\0.")
    return (tmp / "p",)


def cut_tar(tmp: Path) -> tuple[Any, ...]:
    write_cifar(tmp / "c")
    path = pack_tar(tmp / "c.tar.gz", tmp / "c", "c")
    path.write_bytes(path.read_bytes()[:-5000])
    return (path,)


def fifo(tmp: Path) -> tuple[Any, ...]:
    os.mkfifo(tmp / "pipe")
    return tmp / "pipe", *S


def fifo_of_labels(tmp: Path) -> tuple[Any, ...]:
    os.mkfifo(tmp / "labels.csv")
    return class_folders(tmp / "in", per_class=1), *S, "--labels", tmp / "labels.csv"


def empty(tmp: Path) -> tuple[Any, ...]:
    (tmp / "in").mkdir()
    return tmp / "in", *S


def loop(tmp: Path) -> tuple[Any, ...]:
    save(tmp / "in" / "a.png", noise(9, 9))
    (tmp / "in" / "b.png").symlink_to("b.png")
    return tmp / "in", *S


def folder_as_image(tmp: Path) -> tuple[Any, ...]:
    (tmp / "in" / "x.png").mkdir(parents=True)
    return tmp / "in", *S


def newline(tmp: Path) -> tuple[Any, ...]:
    (tmp / "in").mkdir()
    (tmp / "in" / "a\nerror: b\x1b[31m.png").write_bytes(b"")
    return tmp / "in", *S


def no_utf8(tmp: Path) -> tuple[Any, ...]:
    (tmp / "in").mkdir()
    (tmp / "in" / os.fsdecode(b"\xff.png")).write_bytes(b"x")
    return tmp / "in", *S
