"""The copy of the code for a launch: its owner can delete it, and a disk that fails leaves nothing of it."""

import errno
import os
from pathlib import Path

import pytest

from ablations.plan import snapshot
from diffussm.errors import one_line
from tests.support.faulty_disk import ERRNOS


@pytest.fixture(autouse=True)
def _three_files(monkeypatch: pytest.MonkeyPatch) -> None:
    content = {"diffussm/a.py": b"1", "diffussm/deep/b.py": b"2", "c.py": b"3"}
    monkeypatch.setattr(snapshot, "_content", lambda _: content)


def test_files_are_read_only_and_folders_are_not(tmp_path: Path) -> None:
    with snapshot.code_snapshot(tmp_path, ()) as copy:
        writable = {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.stat().st_mode & 0o200}
        assert copy.stat().st_mode & 0o200
    assert writable == {"diffussm", "diffussm/deep"}


def test_a_copy_of_before_is_removed_too(tmp_path: Path) -> None:
    with snapshot.code_snapshot(tmp_path, ()) as copy:
        for path in (*copy.rglob("*"), copy):
            path.chmod(path.stat().st_mode & ~0o222)
    snapshot.remove(copy)
    assert not copy.exists()


@pytest.mark.parametrize(("code", "fails_at"), [(code, number) for number, code in enumerate(ERRNOS, start=1)])
def test_a_disk_that_fails(code: int, fails_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, writes = Path.write_bytes, 0

    def write_or_fail(path: Path, content: bytes) -> int:
        nonlocal writes
        writes += 1
        if writes == fails_at:
            write(path, content[:1])
            raise OSError(code, os.strerror(code))
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", write_or_fail)
    with pytest.raises(OSError, match=os.strerror(code)) as caught, snapshot.code_snapshot(tmp_path, ()) as copy:
        pass
    assert one_line(caught.value).startswith(f"{tmp_path / 'code'}/")
    assert ".tmp" not in one_line(caught.value)
    assert list((tmp_path / "code").iterdir()) == []
    with snapshot.code_snapshot(tmp_path, ()) as copy:
        assert (copy / "diffussm" / "deep" / "b.py").read_bytes() == b"2"


def test_another_launch_may_make_the_copy_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = Path.rename

    def made_meanwhile(path: Path, target: Path) -> Path:
        (target / "full").mkdir(parents=True)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", made_meanwhile)
    with snapshot.code_snapshot(tmp_path, ()) as copy:
        assert [path.name for path in copy.iterdir()] == ["full"]
        assert [path.name for path in copy.parent.iterdir() if path.is_dir()] == [copy.name]


def test_a_full_disk_takes_no_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="full"), snapshot.code_snapshot(tmp_path / "runs", ()):
        pass
    assert list(tmp_path.iterdir()) == []
