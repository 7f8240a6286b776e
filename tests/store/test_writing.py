"""Atomic writing on a disk that fails at any point: nothing is half-written or left over; the error names the file."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffussm.data.pixels import write_npz
from diffussm.errors import exit_code, one_line
from diffussm.host.disk import disk_problem
from diffussm.store.writing import overwrite, write_atomically, write_once
from tests.support.faulty_disk import ERRNOS, leftovers

WRITERS: dict[str, Callable[[Path], Any]] = {
    "write_atomically": lambda path: write_atomically(path, b"new"),
    "write_once": lambda path: write_once(path, b"new"),
    "write_npz": lambda path: write_npz(path, (1, 2, 2), 1, [np.zeros((1, 1, 2, 2), np.uint8)]),
}
CALLS = {  # of the system, in which each may fail
    "write_atomically": ("mkdir", "fsync", "replace"),
    "write_once": ("mkdir", "fsync", "link"),
    "write_npz": ("mkdir", "fsync", "replace"),
}


@pytest.mark.parametrize("code", ERRNOS)
@pytest.mark.parametrize(("writer", "call"), [(writer, call) for writer in WRITERS for call in CALLS[writer]])
def test_every_call_may_fail(
    writer: str, call: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    path = tmp_path / "a" / "b" / "file"
    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match=os.strerror(code)) as caught:
        WRITERS[writer](path)
    monkeypatch.undo()
    assert one_line(caught.value) == f"{path}: {os.strerror(code)}"
    assert list(tmp_path.iterdir()) == []
    WRITERS[writer](path)
    assert path.exists()
    assert leftovers(tmp_path) == []


def test_folders_of_others_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()

    def fail(_: int) -> None:
        (tmp_path / "made" / "other").touch()  # of another process, meanwhile
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fsync", fail)
    for name in ("made", "empty"):
        with pytest.raises(OSError, match="full"):
            write_atomically(tmp_path / name / "file", b"x")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["empty", "made", "other"]


def test_what_was_there_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.EIO, "broken")))
    with pytest.raises(OSError, match="broken"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [found.name for found in tmp_path.iterdir()] == ["file"]


def test_in_place(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b'{"a": 1000}')
    overwrite(path, b'{"b": 2}')
    assert path.read_bytes() == b'{"b": 2}   '
    overwrite(path, b'{"longer": 2000}')
    assert path.read_bytes() == b'{"longer": 2000}'


def test_an_error_without_a_file_is_reported_without_one() -> None:
    assert one_line(OSError(errno.ENOSPC, "No space left on device")) == "No space left on device"


@pytest.mark.parametrize("code", ERRNOS)
def test_commands_say_it_in_one_line(code: int, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> int:
        raise OSError(code, os.strerror(code), "/runs/file")

    assert exit_code(fail) == 2
    assert capsys.readouterr().err == f"error: /runs/file: {os.strerror(code)}\n"


def test_a_place_where_no_file_can_be_made(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(lambda: write_atomically(Path("/proc/a/b"), b"") or 0) == 2
    assert capsys.readouterr().err == "error: /proc/a/b: No such file or directory\n"


@pytest.mark.parametrize(
    ("disk", "problem"),
    [
        ({"f_flag": os.ST_RDONLY}, "Read-only file system"),
        ({"f_bavail": 0}, "No space left on device"),
        ({"f_favail": 0}, "No space left on device"),
        ({"f_files": 0, "f_favail": 0}, ""),  # a file system that does not count files
        ({}, ""),
    ],
)
def test_a_disk_that_takes_no_files(
    disk: dict[str, int], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Disk:
        f_flag, f_bavail, f_files, f_favail = 0, 1, 1, 1

    for name, value in disk.items():
        monkeypatch.setattr(Disk, name, value)
    monkeypatch.setattr(os, "statvfs", lambda _: Disk)
    assert disk_problem(tmp_path / "not" / "there") == (f"{tmp_path}: {problem}" if problem else "")


def test_a_disk_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> None:
        raise OSError(errno.ESTALE, "Stale file handle", str(path))

    monkeypatch.setattr(os, "statvfs", fail)
    assert disk_problem(tmp_path) == f"{tmp_path}: Stale file handle"
