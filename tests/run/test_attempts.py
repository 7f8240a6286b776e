"""What an attempt tells of itself, and what it hears."""

import errno
import threading
import time

import pytest

from diffussm.run.attempt import Attempt
from diffussm.run.heartbeat import Liveness
from diffussm.stopping import Stopped, StopRequest, Superseded
from diffussm.store.state import State
from diffussm.store.workdir import WorkDir
from diffussm.store.writing import write_atomically
from tests.support.waiting import wait_for


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
