"""When a failed task is tried again: once if that may help, and for a minute while the disk takes nothing."""

import errno
from pathlib import Path

import pytest

import tests.support.tiny as tiny
from ablations.slurm.node.evaluator import Evaluator
from ablations.slurm.node.interruption import Interruption
from ablations.slurm.node.task import make_runner, run_task
from diffussm.run.claim import assume_owner_dead
from diffussm.run.outcome import Outcome
from diffussm.run.retries import DISK_PAUSES, Retries
from diffussm.run.runner import TaskRunner
from diffussm.run.tasks import Task, is_done, pending_tasks
from diffussm.store.rundir import RunDir
from tests.support.faulty_disk import FaultyDisk

TASK = Task(Path("run"), "train")
FULL = Outcome("failed", "full", is_transient=True, awaits_disk=True)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_failure_of_the_task_itself_is_final() -> None:
    assert not Retries().allow(TASK, Outcome("failed", "odd"))


def test_a_failure_that_may_pass_is_tried_once_more_at_once() -> None:
    retries = Retries()
    assert retries.allow(TASK, Outcome("failed", "killed", is_transient=True))
    assert not retries.is_paused(TASK)
    assert not retries.allow(TASK, Outcome("failed", "killed", is_transient=True))
    retries.forget(TASK)
    assert retries.allow(TASK, Outcome("failed", "killed", is_transient=True))


def test_while_the_disk_is_full_there_are_ever_longer_pauses() -> None:
    retries = Retries(clock := Clock())
    for pause in DISK_PAUSES:
        assert retries.allow(TASK, FULL)
        clock.now += pause - 0.5
        assert retries.is_paused(TASK)
        clock.now += 0.5
        assert not retries.is_paused(TASK)
    assert clock.now == 63
    assert not retries.allow(TASK, FULL)
    retries.forget(TASK)
    assert retries.allow(TASK, FULL)


@pytest.fixture
def evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, _signals: None) -> tuple[RunDir, Evaluator]:
    """A trained run, and the evaluator of a job whose pauses take no time."""
    run = tiny.run_folder(tmp_path, training__steps=8, training__milestones=[8], evaluation__metrics=["label_accuracy"])
    TaskRunner(run.path).run_pending(assume_owner_dead, kinds=("train",))
    monkeypatch.setattr("diffussm.run.runner.redirect_output", lambda _: None)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    interruption, clock = Interruption(), Clock()

    def evaluate(task: Task, number: int) -> Outcome:
        return run_task(make_runner(task.run, interruption), task, number, interruption)

    def pause(seconds: float) -> None:
        clock.now += seconds

    evaluator = Evaluator(tmp_path, [run.run_id], interruption, evaluate, pause)
    evaluator._retries = Retries(clock)
    return run, evaluator


def test_the_evaluator_of_a_cluster_tries_again_when_the_disk_has_room(evaluated: tuple[RunDir, Evaluator]) -> None:
    run, evaluator = evaluated
    (task,) = pending_tasks(run)
    with FaultyDisk(errno.EROFS, 6).used():  # of its samples
        evaluator.work()
    assert is_done(run)
    assert task.folder.owner() == 2


def test_the_evaluator_gives_up_after_a_minute(
    evaluated: tuple[RunDir, Evaluator], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, evaluator = evaluated
    (task,) = pending_tasks(run)

    def full(*_: object) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr("diffussm.store.records.write", full)
    evaluator.work()
    assert not is_done(run)
    assert task.folder.owner() == 1 + len(DISK_PAUSES)
    assert task.folder.state().reason == "OSError: Disk quota exceeded"
