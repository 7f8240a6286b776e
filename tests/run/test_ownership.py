"""Who owns a folder and who is alive: no locks, no trust in clocks."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from diffussm.host import machine
from diffussm.run.heartbeat import STALE_SECONDS, Liveness
from diffussm.store.state import State
from diffussm.store.workdir import WorkDir
from diffussm.store.writing import to_json, write_atomically
from tests.support.ending import popen


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def owned_elsewhere(work: WorkDir, attempt: int) -> None:
    """As if a process on another machine had claimed it."""
    write_atomically(work.path / f"owner-{attempt}.json", to_json({"place": "far", "pid": 1, "started": "1"}))


def test_of_many_claims_after_one_attempt_one_succeeds(work: WorkDir) -> None:
    for attempt in range(5):
        with ThreadPoolExecutor(16) as pool:
            won = list(pool.map(lambda _, attempt=attempt: work.claim(expected_owner=attempt), range(16)))
        assert [number for number in won if number] == [attempt + 1]
    assert work.owner() == 5
    assert work.claim(expected_owner=3) is None


def test_a_claim_is_lost_without_an_error_where_the_owner_tidies_up(
    work: WorkDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The owner removes what killed owners left half-written, while another process is about to claim the folder."""

    def link_later(source: Path, target: Path, link: Callable[[Path, Path], None] = os.link) -> None:
        monkeypatch.undo()
        assert work.claim(expected_owner=0) == 1
        work.remove_temporaries()
        link(source, target)

    monkeypatch.setattr(os, "link", link_later)
    assert work.claim(expected_owner=0) is None
    assert [path.name for path in work.path.iterdir()] == ["owner-1.json"]


def test_nobody_is_alive_where_nobody_was(work: WorkDir) -> None:
    assert not Liveness().is_alive(work)
    assert not Liveness().is_alive(WorkDir(work.path / "not there"))


def test_a_heart_that_beats_is_alive_and_one_that_stops_is_stale(work: WorkDir) -> None:
    owned_elsewhere(work, 1)
    seen = Liveness(clock=(clock := Clock()))
    assert seen.is_alive(work)  # claimed, and has not reported yet
    for beat in range(5):
        work.write_state(State(phase="train", attempt=1, heartbeat=beat))
        clock.now += STALE_SECONDS - 1
        assert seen.is_alive(work)
    clock.now += STALE_SECONDS
    assert not seen.is_alive(work)
    work.write_state(State(phase="train", attempt=1, heartbeat=9))  # it was asleep
    assert seen.is_alive(work)


def test_a_new_claim_over_a_stale_one_is_alive(work: WorkDir) -> None:
    owned_elsewhere(work, 1)
    work.write_state(State(phase="train", attempt=1, heartbeat=3))
    seen = Liveness(clock=(clock := Clock()))
    assert seen.is_alive(work)
    clock.now += STALE_SECONDS
    assert not seen.is_alive(work)
    owned_elsewhere(work, 2)
    assert seen.is_alive(work)
    work.write_state(State(phase="stopped", attempt=2, heartbeat=1))
    assert not seen.is_alive(work)


def test_whoever_looks_once_goes_by_the_files_time(work: WorkDir) -> None:
    owned_elsewhere(work, 1)
    work.write_state(State(phase="train", attempt=1, heartbeat=3))
    assert Liveness(by_mtime=True).is_alive(work)
    then = time.time() - STALE_SECONDS - 5
    for path in work.path.iterdir():
        os.utime(path, (then, then))
    assert not Liveness(by_mtime=True).is_alive(work)
    assert Liveness().is_alive(work)  # who takes over waits and sees
    owned_elsewhere(work, 2)  # which has reported no state yet
    assert Liveness(by_mtime=True).is_alive(work)


def test_files_of_an_attempt_whose_claim_was_lost_are_not_overwritten(work: WorkDir) -> None:
    for name in ("train-2.jsonl", "provenance-3.json", "log-4-1.txt", "state.json", "notes-9.md"):
        (work.path / name).write_text("")
    assert work.claim(expected_owner=0) == 5
    assert work.claim(expected_owner=0) is None
    assert work.claim() == 6


def test_a_process_that_is_gone_from_here_is_dead_at_once(work: WorkDir) -> None:
    code = (
        "import sys; from pathlib import Path; from diffussm.store.state import State\n"
        "from diffussm.store.workdir import WorkDir\n"
        "w = WorkDir(Path(sys.argv[1])); n = w.claim()\n"
        "w.write_state(State(phase='train', attempt=n, heartbeat=1))\n"
        "print(n, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(work.path)]
    process = popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "1\n"
    assert Liveness().is_alive(work)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, and not yet reaped
    assert not Liveness().is_alive(work)
    process.communicate()
    assert not Liveness().is_alive(work)


def test_who_must_be_certain_waits_for_the_heart(work: WorkDir, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, beats = Clock(), iter([1, 1, 2])
    owned_elsewhere(work, 1)
    work.write_state(State(phase="train", attempt=1, heartbeat=1))

    def sleep(seconds: float) -> None:
        clock.now += seconds
        work.write_state(State(phase="train", attempt=1, heartbeat=next(beats, 2)))

    monkeypatch.setattr("diffussm.run.heartbeat.time.sleep", sleep)
    assert Liveness(clock=clock).is_alive_for_certain(work)
    assert clock.now == 1003.0
    assert not Liveness(clock=clock).is_alive_for_certain(work)  # it beats no more
    assert clock.now == 1003.0 + STALE_SECONDS


def test_another_process_of_the_same_number_is_not_it(work: WorkDir) -> None:
    claim = {"place": machine.pid_scope(), "pid": os.getpid(), "started": "long ago"}
    write_atomically(work.path / "owner-1.json", to_json(claim))
    assert not Liveness().is_alive(work)
