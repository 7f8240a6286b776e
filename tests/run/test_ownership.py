"""Who owns a folder and who is alive: no locks, no trust in clocks."""

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from diffussm.host import machine
from diffussm.run.attempt import Attempt
from diffussm.run.heartbeat import STALE_SECONDS, Liveness
from diffussm.stopping import Stopped, StopRequest, Superseded
from diffussm.store.state import State
from diffussm.store.workdir import WorkDir
from diffussm.store.writing import to_json, write_atomically
from tests.support.ending import popen
from tests.support.waiting import wait_for


@pytest.fixture
def work(tmp_path: Path) -> WorkDir:
    folder = WorkDir(tmp_path / "work")
    folder.path.mkdir()
    return folder


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


def test_another_process_of_the_same_number_is_not_it(work: WorkDir) -> None:
    claim = {"place": machine.pid_scope(), "pid": os.getpid(), "started": "long ago"}
    write_atomically(work.path / "owner-1.json", to_json(claim))
    assert not Liveness().is_alive(work)


def never() -> bool:
    return False


def test_an_attempt_says_how_it_went(work: WorkDir) -> None:
    number = work.claim()
    assert number == 1
    with Attempt(work, number, never) as attempt:
        assert work.state().phase == "start"
        attempt.report(phase="train", step=3)
    assert work.state().phase == "done"
    assert work.state().step == 3
    assert work.state().heartbeat == 3
    number = work.claim()
    assert number == 2
    with pytest.raises(ValueError, match="odd"), Attempt(work, number, never):
        raise ValueError("odd\nthing")
    state = work.state()
    assert (state.phase, state.reason, state.is_transient, state.attempt) == (
        "failed",
        "ValueError: odd thing",
        False,
        2,
    )


def test_reports_of_one_phase_are_not_written_by_who_works(work: WorkDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffussm.run.attempt.MONITOR_SECONDS", 0.01)
    number, writers, write = work.claim(), list[threading.Thread](), work.write_state

    def noted(state: State) -> None:
        writers.append(threading.current_thread())
        write(state)

    monkeypatch.setattr(work, "write_state", noted)
    assert number
    with Attempt(work, number, never) as attempt:
        for step in range(100):
            attempt.report(phase="train", step=step)
        wait_for(lambda: work.state().step == 99, 20)
    assert writers.count(threading.current_thread()) == 3  # the start, the first of the phase, and the end


@pytest.mark.parametrize(("begun", "is_transient"), [(False, True), (True, False)])
def test_out_of_memory_is_transient_at_the_start_only(begun: bool, is_transient: bool, work: WorkDir) -> None:
    number = work.claim()
    assert number
    with pytest.raises(RuntimeError), Attempt(work, number, never) as attempt:
        if begun:
            attempt.report(phase="train", step=10)
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:115] DefaultCPUAllocator: can't allocate memory")
    assert work.state().is_transient is is_transient


def test_a_superseded_attempt_is_silent(work: WorkDir) -> None:
    number = work.claim()
    assert number
    with pytest.raises(Superseded), Attempt(work, number, never) as attempt:
        assert work.claim(expected_owner=number) == 2
        work.write_state(State(phase="start", attempt=2, heartbeat=1))
        attempt.report(phase="train", step=1)
    assert work.state().attempt == 2


def test_a_full_disk_does_not_deafen(work: WorkDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """The heart goes on when the disk has room again, and so does the listening."""
    monkeypatch.setattr("diffussm.run.attempt.MONITOR_SECONDS", 0.01)
    monkeypatch.setattr("diffussm.run.attempt.HEARTBEAT_SECONDS", 0.02)
    number = work.claim()
    assert number
    write, full = work.write_state, [False]

    def write_if_there_is_room(state: State) -> None:
        if full[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(state)

    monkeypatch.setattr(work, "write_state", write_if_there_is_room)
    cancelled = threading.Event()
    with Attempt(work, number, cancelled.is_set) as attempt:
        full[0] = True
        time.sleep(0.3)
        full[0] = False
        beat = work.state().heartbeat
        wait_for(lambda: work.state().heartbeat > beat, 20)
        cancelled.set()
        wait_for(lambda: bool(attempt.stop.stopped), 20)


def test_a_full_disk_is_transient_and_leaves_no_half_files(work: WorkDir, monkeypatch: pytest.MonkeyPatch) -> None:
    number = work.claim()
    assert number
    with pytest.raises(OSError, match="No space"), Attempt(work, number, never) as attempt:
        attempt.report(phase="train", step=10)
        raise OSError(errno.ENOSPC, "No space left on device")
    assert work.state().is_transient is True

    def no_room(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", no_room)
    with pytest.raises(OSError, match="No space"):
        write_atomically(work.path / "file", b"x")
    assert not list(work.path.glob(".*.tmp"))


def test_an_attempt_hears_why_to_stop_and_its_heart_beats(work: WorkDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffussm.run.attempt.MONITOR_SECONDS", 0.01)
    monkeypatch.setattr("diffussm.run.attempt.HEARTBEAT_SECONDS", 0.05)
    cancelled = threading.Event()
    number = work.claim()
    assert number
    with pytest.raises(Stopped), Attempt(work, number, cancelled.is_set) as attempt:
        wait_for(lambda: work.state().heartbeat >= 4, 20)  # while the work says nothing
        cancelled.set()
        wait_for(lambda: bool(attempt.stop.stopped), 20)
        attempt.stop.check()
    assert work.state().phase == "cancelled"


def test_an_attempt_hears_that_another_owns_the_folder(work: WorkDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffussm.run.attempt.MONITOR_SECONDS", 0.01)
    number = work.claim()
    assert number
    with pytest.raises(Superseded, match=r"attempt 2 \(.*\) owns"), Attempt(work, number, never) as attempt:
        work.claim()
        wait_for(lambda: bool(attempt.stop.stopped), 20)
        attempt.stop.check()
    assert work.state().phase == "start"


def test_what_stops_the_process_stops_the_attempt(work: WorkDir) -> None:
    number, stop = work.claim(), StopRequest()
    assert number
    with pytest.raises(Stopped, match="SIGUSR2"), Attempt(work, number, never, stop=stop) as attempt:
        stop.set(Stopped("SIGUSR2", "timed out"))
        attempt.stop.check()
    assert (work.state().phase, work.state().reason) == ("timed out", "SIGUSR2")


def test_a_failure_outlives_the_process_that_should_tell_of_it(work: WorkDir) -> None:
    """One of many processes failed, and the first was killed for it."""
    number = work.claim()
    assert number == 1
    state = State(phase="train", step=9, attempt=1, heartbeat=4)
    work.write_state(state)
    failure = State(phase="failed", reason="rank 3: odd", is_transient=False, code="c", attempt=1)
    assert work.record_failure(1, failure) == failure
    assert work.record_failure(1, failure.updated(reason="rank 0: Connection closed by peer")) == failure
    assert work.state() == state.updated(**failure.reported())
    assert not Liveness().is_alive(work)
    work.write_state(state.updated(attempt=2))  # taken up
    assert work.state().phase == "train"


def test_logs_are_in_the_order_of_attempts_and_ranks(work: WorkDir) -> None:
    expected = [work.log_path(attempt, rank) for attempt in (1, 2, 10) for rank in (0, 1, 11)]
    for path in reversed(expected):
        path.touch()
    assert work.log_paths() == expected
