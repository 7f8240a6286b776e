"""Copies of a data set on a node's own disk: whole, verified, made once by all processes together."""

import errno
import os
import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffussm.data.prepared import stage
from diffussm.data.prepared.reader import PreparedImages
from diffussm.data.prepared.stage import stage_folder, staged
from diffussm.data.prepared.verify import find_damage
from diffussm.errors import UserError
from diffussm.stopping import Stopped
from tests.support.prepared_set import noise_images, write_prepared


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_prepared(tmp_path / "set", noise_images())
    return tmp_path / "set"


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def raising_at(count: int, error: BaseException) -> Any:
    """Return a function that raises at its count-th call."""
    calls = iter(range(1, count + 1))

    def check() -> None:
        if next(calls) == count:
            raise error

    return check


def test_a_copy_is_whole_and_is_made_once(folder: Path, tmp_path: Path) -> None:
    copy = staged(folder, tmp_path / "fast" / "disk")
    assert copy.parent == tmp_path / "fast" / "disk"
    assert content(copy) == content(folder)
    assert np.array_equal(PreparedImages(copy).take([19, 3]).pixels, noise_images()[[19, 3]])
    made = {path.name: path.stat().st_ino for path in copy.iterdir()}
    assert staged(folder, tmp_path / "fast" / "disk") == copy
    assert {path.name: path.stat().st_ino for path in copy.iterdir()} == made


def test_another_content_or_other_shards_are_another_copy(folder: Path, tmp_path: Path) -> None:
    write_prepared(tmp_path / "other", noise_images(seed=1))
    write_prepared(tmp_path / "shards", noise_images(), per_shard=5)
    copies = {staged(tmp_path / name, tmp_path / "fast") for name in ("set", "other", "shards")}
    assert len(copies) == 3


def test_processes_of_a_node_copy_each_file_once(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[str] = []
    usual = stage._write

    def counted(out: Any, source: Path, *others: Any) -> None:
        copied.append(source.name)
        usual(out, source, *others)

    monkeypatch.setattr(stage, "_write", counted)
    monkeypatch.setattr(stage, "_WAIT_SECONDS", 0.001)
    with ThreadPoolExecutor(6) as processes:  # a lock is that of an open file: threads exclude one another, too
        copies = set(processes.map(lambda _: staged(folder, tmp_path / "fast"), range(6)))
    assert Counter(copied) == Counter(path.name for path in folder.iterdir())
    assert content(copies.pop()) == content(folder)
    assert not copies


@pytest.mark.parametrize("chunk", [2, 5, 8])  # labels, a shard, the manifest
def test_who_is_killed_leaves_nothing_in_the_way(folder: Path, tmp_path: Path, chunk: int) -> None:
    child = os.fork()
    if child == 0:
        calls = iter(range(1, 100))
        staged(folder, tmp_path / "fast", lambda: next(calls) == chunk and os.kill(os.getpid(), signal.SIGKILL))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    (copy,) = (tmp_path / "fast").iterdir()
    assert len(list(copy.glob(".*.partial"))) == 1
    assert content(staged(folder, tmp_path / "fast")) == content(folder)


def test_a_stop_leaves_whole_files_alone(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        staged(folder, tmp_path / "fast", raising_at(6, Stopped("SIGTERM")))
    (copy,) = (tmp_path / "fast").iterdir()
    assert content(copy).items() < content(folder).items()
    assert not (copy / "manifest.json").exists()
    assert content(staged(folder, tmp_path / "fast")) == content(folder)


def test_a_file_that_lost_its_end_is_copied_again(folder: Path, tmp_path: Path) -> None:
    copy = staged(folder, tmp_path / "fast")
    os.truncate(copy / "pixels-00001.npy", 200)
    assert content(staged(folder, tmp_path / "fast")) == content(folder)


def test_a_damaged_shard_is_not_copied(folder: Path, tmp_path: Path) -> None:
    shard = folder / "pixels-00001.npy"
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match=rf"^{shard}: is damaged"):
        staged(folder, tmp_path / "fast")
    (copy,) = (tmp_path / "fast").iterdir()
    assert not list(copy.glob("*pixels-00001*"))
    shard.unlink()
    with pytest.raises(UserError, match=rf"^{shard}: no such file"):
        staged(folder, tmp_path / "fast")


def test_a_full_disk_is_one_line(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(stage, "_write", full)
    with pytest.raises(
        UserError, match=r"^--stage: .*fast.*: no room: the data set takes 3\.84 kB; use another folder"
    ):
        staged(folder, tmp_path / "fast")
    assert not list((tmp_path / "fast").rglob("*.partial"))


def test_a_stage_that_is_no_folder_is_one_line(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"^--stage: .*file/.*: cannot be written: Not a directory"):
        staged(folder, tmp_path / "file")


def test_variables_of_the_node_are_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DIFFUSSM_STAGE", raising=False)
    assert stage_folder() is None
    monkeypatch.setenv("DIFFUSSM_STAGE", "$SLURM_TMPDIR/data")
    monkeypatch.setenv("SLURM_TMPDIR", "/local/17")
    assert stage_folder() == Path("/local/17/data")
    monkeypatch.delenv("SLURM_TMPDIR")
    with pytest.raises(UserError, match=r"^--stage \$SLURM_TMPDIR/data: the environment variable is not set here"):
        stage_folder()
    monkeypatch.setenv("DIFFUSSM_STAGE", "$SLURM_TMPDIR")
    monkeypatch.setenv("SLURM_TMPDIR", "")
    with pytest.raises(UserError, match=r"^--stage \$SLURM_TMPDIR: the environment variable is empty here"):
        stage_folder()


def test_a_stage_in_the_data_set_is_refused(folder: Path) -> None:
    for place in (folder, folder / "fast"):
        with pytest.raises(UserError, match=r"^--stage: .*: lies in the data set .*set; use another folder"):
            staged(folder, place)
    assert not find_damage(folder, lambda _: None)
