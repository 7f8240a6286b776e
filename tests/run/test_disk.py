"""A disk that is full, read-only or gone at any write: the state says so, nothing half-written stays, and the run goes
on when it can."""

import errno
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tests.support.tiny as tiny
from diffussm.run.claim import assume_owner_dead
from diffussm.run.outcome import outcome_of
from diffussm.run.runner import TaskRunner
from diffussm.run.tasks import is_done
from diffussm.store.rundir import RunDir
from diffussm.store.state import State
from tests.support.faulty_disk import ERRNOS, FaultyDisk, leftovers

SHORT = {
    "training__steps": 2,
    "training__milestones": [2],
    "evaluation__samples": 4,
    "evaluation__metrics": ["label_accuracy"],
}
WRITES = 18  # one more than a run has


def work(run: RunDir) -> None:
    TaskRunner(run.path).run_pending(assume_owner_dead)


def failure(run: RunDir) -> State:
    """The state of the one task that failed."""
    (state,) = (state for folder in (run, *run.evaluations()) if (state := folder.state()).has_failed)
    return state


def metrics(run: RunDir) -> Any:
    return [json.loads(path.read_text())["metrics"] for path in sorted(run.path.glob("milestones/*/*/record.json"))]


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    run = tiny.run_folder(tmp_path_factory.mktemp("calm"), **SHORT)
    disk = FaultyDisk(errno.ENOSPC)
    with disk.used():
        work(run)
    assert disk.writes == WRITES - 1
    return run


@pytest.mark.parametrize("fails_at", range(1, WRITES))
def test_the_disk_fails_at_one_write(fails_at: int, tmp_path: Path, calm: RunDir) -> None:
    code = ERRNOS[fails_at % len(ERRNOS)]
    run = tiny.run_folder(tmp_path, **SHORT)
    disk, ended = FaultyDisk(code, fails_at), True
    with disk.used():
        try:
            work(run)
        except OSError as error:
            ended = False
            outcome = outcome_of(error)
    assert leftovers(run.path) == []
    if not ended:
        assert (outcome.phase, outcome.is_transient, outcome.awaits_disk) == ("failed", True, True)
        assert outcome.reason.startswith(f"OSError: {run.path}/")
        assert outcome.reason.endswith(f": {os.strerror(code)}")
        if "owner-" not in outcome.reason:  # before a claim there is no state to say it
            state = failure(run)
            assert (state.phase, state.is_transient, state.reason) == ("failed", True, outcome.reason)
        work(run)
    assert is_done(run)
    assert metrics(run) == metrics(calm)
    assert leftovers(run.path) == []


@pytest.mark.parametrize(("code", "fails_at"), [(errno.ENOSPC, 4), (errno.EDQUOT, 7), (errno.ENOSPC, 14)])
def test_a_full_disk_can_still_say_that_it_is_full(code: int, fails_at: int, tmp_path: Path, calm: RunDir) -> None:
    """In place of the state before."""
    run = tiny.run_folder(tmp_path, **SHORT)
    with FaultyDisk(code, fails_at, for_good=True).used(), pytest.raises(OSError, match=os.strerror(code)):
        work(run)
    if states := [state for folder in (run, *run.evaluations()) if (state := folder.state()).has_failed]:
        assert os.strerror(code) in states[0].reason
        assert str(run.path) in states[0].reason
    else:
        assert run.state().phase == "done"  # the evaluation could not be claimed
    assert leftovers(run.path) == []
    work(run)
    assert metrics(run) == metrics(calm)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("cannot mount a file system here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_really_full(small_disk: Path, calm: RunDir) -> None:
    run = tiny.run_folder(small_disk / "runs", **SHORT)
    filler = small_disk / "filler"
    disk = os.statvfs(small_disk)
    filler.write_bytes(b"\0" * (disk.f_bavail * disk.f_frsize - (16 << 10)))
    with pytest.raises(OSError, match="No space left on device"):
        work(run)
    assert leftovers(run.path) == []
    assert failure(run).reason.startswith(f"OSError: {run.path}/")
    assert failure(run).reason.endswith("No space left on device")
    filler.unlink()
    work(run)
    assert is_done(run)
    assert metrics(run) == metrics(calm)
