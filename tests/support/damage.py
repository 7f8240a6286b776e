"""Ways in which a stored file may be damaged."""

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

CONTENTS = {
    "empty": b"",
    "torn": b'{"phase": "tr',
    "not UTF-8": b'{"order": "\xff"}',
    "zeros": b"\0" * 64,
    "a list": b"[1, 2]",
    "null": b"null",
    "an empty object": b"{}",
    "nested too deep": b"[" * 100_000,
}
EVERY_WAY = (*CONTENTS, "a folder", "a named pipe", "a link to nothing", "a link to itself")


def corrupt(path: Path, how: str) -> None:
    """Put something in the place of the file that is damaged in the way `how`."""
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    match how:
        case "a folder":
            path.mkdir()
        case "a named pipe":
            os.mkfifo(path)
        case "a link to nothing":
            path.symlink_to(path.with_name("nothing"))
        case "a link to itself":
            path.symlink_to(path)
        case _:
            path.write_bytes(CONTENTS[how])


NO_NAMES = ("", ".", "..", "../out", "/tmp/out", "a/b", "a/", ".hidden", "a\nb", "a\0b", "x" * 201)  # of files


def flip(path: Path, bit: int) -> None:
    """Flip one bit of the file; a negative number counts from its end."""
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def zero(path: Path, start: int, count: int = 4096) -> None:
    """Overwrite bytes of the file with zeros."""
    content = bytearray(path.read_bytes())
    content[start : start + count] = b"\0" * len(content[start : start + count])
    path.write_bytes(content)


def cut(path: Path, count: int) -> None:
    """Remove the last bytes of the file."""
    path.write_bytes(path.read_bytes()[:-count])


def unnoticed(path: Path, bits: Iterable[int], read: Callable[[], object], error: type[Exception]) -> list[int]:
    """Flip each of the bits by itself; return those with which `read` does not raise the error."""
    whole, passed = path.read_bytes(), []
    for bit in bits:
        flip(path, bit)
        try:
            read()
            passed.append(bit)
        except error:
            pass
        path.write_bytes(whole)
    return passed
