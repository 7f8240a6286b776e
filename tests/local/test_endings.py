"""What the local pool makes of workers that answer that all is well while their task is still pending."""

import os
import selectors
from collections.abc import Sequence
from pathlib import Path

import pytest

import tests.support.tiny as tiny
from ablations.local.pool import Pool
from ablations.local.slots import SlotLayout
from ablations.plan.job import Job
from diffussm.host import machine
from diffussm.run.outcome import Outcome
from diffussm.run.retries import MAX_TRIES
from diffussm.run.tasks import Task
from diffussm.store.rundir import RunDir
from diffussm.store.state import State
from diffussm.store.writing import to_json, write_atomically


class Callbacks:
    def __init__(self) -> None:
        self.ends: list[Outcome] = []
        self.retries: list[str] = []

    def on_progress(self, active: Sequence[tuple[int, Task]]) -> None:
        pass

    def on_retry(self, task: Task, reason: str) -> None:
        self.retries.append(f"{task}: {reason}")

    def on_wait(self, gpus: Sequence[str]) -> None:
        pass

    def on_end(self, job: Job, outcome: Outcome) -> None:  # noqa: ARG002
        self.ends.append(outcome)


class IdleWorker:
    """Answers every task at once with the same outcome, and does nothing."""

    def __init__(self, slots: tuple[int, ...], outcome: Outcome):
        self.slots, self.outcome = slots, outcome
        self.task: Task | None = None
        self.alive = True
        self.starts = 0
        readable, writable = os.pipe()
        self.answers = os.fdopen(readable, "rb")
        os.write(writable, b"\n")  # always readable
        os.close(writable)

    def start(self, task: Task, expected_owner: int) -> None:
        self.task, self.expected_owner = task, expected_owner
        self.starts += 1
        assert self.starts <= MAX_TRIES

    def read_outcome(self) -> Outcome:
        return self.outcome

    def terminate(self) -> None:
        pass

    def close(self, _: float = 0.0) -> None:
        self.answers.close()


def claimed_by_a_dead_process(run: RunDir, attempt: int) -> None:
    gone = {"place": machine.pid_scope(), "pid": os.getpid(), "started": "long ago"}
    write_atomically(run.path / f"owner-{attempt}.json", to_json(gone))


@pytest.mark.parametrize("phase", ["done", "superseded"])
def test_a_task_that_stays_pending_ends_the_run(phase: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run: RunDir = tiny.run_folder(tmp_path)
    worker = IdleWorker((0,), Outcome(phase))
    callbacks = Callbacks()
    pool = Pool([Job(run, 1.0)], SlotLayout(1, 1, gpus=(), memory_gb=1.0), tmp_path, callbacks)
    pool._selector.register(worker.answers, selectors.EVENT_READ, worker)
    monkeypatch.setattr(pool, "_worker_on", lambda _: worker)
    outcomes = pool.work()
    reason = "training: ended without an error, but is still pending"
    assert outcomes == {run.path: Outcome("failed", reason)}
    assert callbacks.ends == [Outcome("failed", reason)]
    assert callbacks.retries == [reason]
    assert worker.starts == MAX_TRIES


def test_a_task_that_others_take_over_and_leave_has_not_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another launch is faster, and its worker is killed, more often than a task is tried."""
    run: RunDir = tiny.run_folder(tmp_path)
    worker = IdleWorker((0,), Outcome("superseded"))
    callbacks = Callbacks()
    pool = Pool([Job(run, 1.0)], SlotLayout(1, 1, gpus=(), memory_gb=1.0), tmp_path, callbacks)
    pool._selector.register(worker.answers, selectors.EVENT_READ, worker)
    monkeypatch.setattr(pool, "_worker_on", lambda _: worker)
    monkeypatch.setattr("tests.local.test_endings.MAX_TRIES", MAX_TRIES + 1)

    def read_outcome() -> Outcome:
        claimed_by_a_dead_process(run, worker.starts)
        if worker.starts == MAX_TRIES:
            monkeypatch.setattr("ablations.local.pool.pending_tasks", lambda _: [])
            monkeypatch.setattr("ablations.local.pool.is_done", lambda _: True)
        return worker.outcome

    monkeypatch.setattr(worker, "read_outcome", read_outcome)
    assert pool.work() == {run.path: Outcome("done")}
    assert callbacks.ends == [Outcome("done")]
    assert callbacks.retries == []


@pytest.mark.parametrize("recovers", [True, False])
def test_a_task_waits_for_the_disk(recovers: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again after pauses, here of no time; the run fails if the disk does not recover."""
    run: RunDir = tiny.run_folder(tmp_path)
    full = Outcome("failed", "OSError: file: No space left on device", is_transient=True, awaits_disk=True)
    worker = IdleWorker((0,), full)
    callbacks = Callbacks()
    pool = Pool([Job(run, 1.0)], SlotLayout(1, 1, gpus=(), memory_gb=1.0), tmp_path, callbacks)
    pool._selector.register(worker.answers, selectors.EVENT_READ, worker)
    monkeypatch.setattr(pool, "_worker_on", lambda _: worker)
    monkeypatch.setattr("diffussm.run.retries.DISK_PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setattr("tests.local.test_endings.MAX_TRIES", 4)

    def read_outcome() -> Outcome:
        if recovers and worker.starts == 3:
            monkeypatch.setattr("ablations.local.pool.pending_tasks", lambda _: [])
            monkeypatch.setattr("ablations.local.pool.is_done", lambda _: True)
            return Outcome("done")
        return full

    monkeypatch.setattr(worker, "read_outcome", read_outcome)
    expected = Outcome("done") if recovers else Outcome("failed", f"training: {full.reason}")
    assert pool.work() == {run.path: expected}
    assert worker.starts == (3 if recovers else 4)
    assert callbacks.retries == [f"training: {full.reason}"] * (worker.starts - 1)


@pytest.mark.parametrize("is_done", [True, False])
def test_a_worker_s_death_is_a_failure_unless_its_task_was_done_by_then(
    is_done: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run: RunDir = tiny.run_folder(tmp_path)
    claimed_by_a_dead_process(run, 1)
    run.write_state(State(phase="train", attempt=1))
    killed = Outcome("failed", "killed by SIGKILL", is_transient=True)
    worker = IdleWorker((0,), killed)
    pool = Pool([Job(run, 1.0)], SlotLayout(1, 1, gpus=(), memory_gb=1.0), tmp_path, Callbacks())
    pool._selector.register(worker.answers, selectors.EVENT_READ, worker)
    monkeypatch.setattr(pool, "_worker_on", lambda _: worker)

    def read_outcome() -> Outcome:
        if is_done and worker.starts == MAX_TRIES:
            monkeypatch.setattr("ablations.local.pool.pending_tasks", lambda _: [])
            monkeypatch.setattr("ablations.local.pool.is_done", lambda _: True)
        return killed

    monkeypatch.setattr(worker, "read_outcome", read_outcome)
    assert pool.work()[run.path].kind == ("done" if is_done else "failed")
    assert worker.starts == MAX_TRIES
    assert run.state().phase == ("train" if is_done else "failed")
