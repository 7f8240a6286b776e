"""Cells of many processes: killed and taken up, stopped, failed, and what they leave behind."""

import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tests.support.tiny as tiny
from diffussm.distributed.group import ProcessGroup
from diffussm.errors import UserError
from diffussm.run.claim import assume_owner_dead
from diffussm.run.runner import TaskRunner
from diffussm.run.tasks import failure
from diffussm.stopping import Stopped, StopRequest, Superseded
from diffussm.store.rundir import RunDir
from diffussm.training.trainer import Trainer
from tests.support.processes import join_ranks, start_ranks
from tests.training.test_resume import NEVER, assert_same, at_call, outcome

DONE, FAILED, MISTAKEN, STOPPED, SUPERSEDED = range(5)
Happening = Callable[[TaskRunner], Any]


def nothing(_: TaskRunner) -> None:
    pass


def dies(_: TaskRunner) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fails(_: TaskRunner) -> None:
    raise ValueError("odd")


def hears_sigusr2(runner: TaskRunner) -> None:
    runner.stop.set(Stopped("SIGUSR2", "preempted"))


def is_cancelled(runner: TaskRunner) -> None:
    runner.run.add_order("cancel")
    time.sleep(1.5)  # until it is heard


def is_superseded(runner: TaskRunner) -> None:
    runner.run.claim()


def work(
    processes: ProcessGroup, folder: Path, what: Happening, rank: int, step: int, call: int, seconds: float
) -> None:
    runner = TaskRunner(folder, seconds, processes=processes, to_logs=True)
    if processes.rank == rank:
        for owner, name, count in ((Trainer, "step", step), (StopRequest, "check", call)):
            usual = getattr(owner, name)
            setattr(owner, name, at_call(count, lambda self, usual=usual: what(runner) or usual(self), usual))
    try:
        runner.run_pending(assume_owner_dead)
    except Superseded:
        sys.exit(SUPERSEDED)
    except Stopped as stopped:
        print(f"stopped: {stopped}", flush=True)
        sys.exit(STOPPED)
    except UserError as error:
        print(f"error: {error}", flush=True)
        sys.exit(MISTAKEN)
    except Exception:
        traceback.print_exc()
        sys.exit(FAILED)


def runners(
    count: int,
    run: RunDir,
    what: Happening = nothing,
    rank: int = 0,
    step: int = 0,
    call: int = 0,
    checkpoint_minutes: float = NEVER,
) -> list[int | None]:
    """Exit codes of `count` processes, in one of which something happens before its `step`-th step of training, or its
    `call`-th step of a sampler in an evaluation."""
    return join_ranks(start_ranks(count, work, run.path, what, rank, step, call, checkpoint_minutes))


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """Made by two, undisturbed."""
    run = tiny.run_folder(tmp_path_factory.mktemp("calm"))
    assert runners(2, run) == [DONE, DONE]
    return run


def test_what_two_leave_behind(calm: RunDir) -> None:
    assert calm.state().phase == "done"
    assert calm.execution().micro_batches == 2
    assert len(list(calm.path.glob("milestones/*/*/record.json"))) == 3
    assert [path.name for path in calm.log_paths()] == ["log-1.txt", "log-1-1.txt"]
    assert calm.log_path(1, 1).read_text().startswith(f"training: {calm.run_id}, process ")
    assert len(list(calm.path.glob("train-*.jsonl"))) == 1
    assert not list(calm.path.rglob("*.tmp"))
    assert not list(calm.path.rglob("failure-*"))


def test_records_do_not_depend_on_who_evaluates(calm: RunDir, tmp_path: Path) -> None:
    alone = RunDir(tmp_path / calm.run_id)
    shutil.copytree(calm.path, alone.path)
    for folder in alone.path.glob("milestones/*/*/"):
        shutil.rmtree(folder)
    TaskRunner(alone.path).run_pending(assume_owner_dead)
    assert alone.owner() == 1  # nothing was trained
    assert_same(outcome(alone), outcome(calm))


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_killed_and_taken_up_by_as_many(count: int, calm: RunDir, tmp_path: Path) -> None:
    expected, run = calm, tiny.run_folder(tmp_path / "killed")
    if count != 2:
        expected = tiny.run_folder(tmp_path / "calm")
        assert runners(count, expected) == [DONE] * count
    codes = runners(count, run, dies, rank=1, step=13)
    assert codes.pop(1) == -signal.SIGKILL
    assert codes == [FAILED] * (count - 1)
    assert run.trained_steps() == 8
    state = failure(run, run)
    assert state
    assert state.is_transient
    assert runners(count, run) == [DONE] * count
    assert_same(outcome(run), outcome(expected))


def test_one_rank_is_asked_to_stop_and_one_process_resumes(calm: RunDir, tmp_path: Path) -> None:
    """In two shares, one after the other."""
    run = tiny.run_folder(tmp_path)
    assert runners(2, run, hears_sigusr2, rank=1, step=11) == [STOPPED, STOPPED]
    state = run.state()
    assert (state.phase, state.reason) == ("preempted", "SIGUSR2")
    assert run.trained_steps() == 16  # the next milestone, at which they synchronise
    assert not list(run.path.glob("failure-*"))
    TaskRunner(run.path).run_pending(assume_owner_dead)
    for found, expected in zip(run.loss_rows(), calm.loss_rows(), strict=True):
        names = ("step", "total", "mse", "bound")
        np.testing.assert_allclose([found[n] for n in names], [expected[n] for n in names], rtol=1e-5)


def test_one_rank_is_asked_to_stop_while_it_samples(calm: RunDir, tmp_path: Path) -> None:
    run = tiny.run_folder(tmp_path)
    assert runners(2, run, hears_sigusr2, rank=1, call=2) == [STOPPED, STOPPED]
    (folder,) = run.evaluations()
    assert folder.state().phase == "preempted"
    assert runners(2, run) == [DONE, DONE]
    assert_same(outcome(run), outcome(calm))


def test_a_cancel_is_heard_by_all(tmp_path: Path) -> None:
    run = tiny.run_folder(tmp_path)
    assert runners(2, run, is_cancelled, rank=1, step=5) == [STOPPED, STOPPED]
    assert run.state().phase == "cancelled"


def test_all_are_superseded_at_once(tmp_path: Path) -> None:
    run = tiny.run_folder(tmp_path)
    assert runners(2, run, is_superseded, step=5, checkpoint_minutes=0.0) == [SUPERSEDED, SUPERSEDED]
    assert (
        run.trained_steps() == 1
    )  # a checkpoint is due whenever they synchronise; the next time, another owns the run
    assert not list(run.path.glob("failure-*"))


def test_the_failure_of_one_is_that_of_the_attempt(tmp_path: Path) -> None:
    run = tiny.run_folder(tmp_path)
    assert runners(2, run, fails, rank=1, step=12) == [FAILED, FAILED]
    state = failure(run, run)
    assert state
    assert (state.phase, state.reason, state.is_transient, state.step) == (
        "failed",
        "rank 1: ValueError: odd",
        False,
        10,
    )
    assert 'raise ValueError("odd")' in run.log_path(1, 1).read_text()
    assert "odd" not in run.log_path(1).read_text()


def test_all_ranks_report_a_user_error(tmp_path: Path) -> None:
    run = tiny.run_folder(tmp_path, training__batch=1)
    assert runners(2, run) == [MISTAKEN, MISTAKEN]
    assert run.state().reason.startswith("training.batch = 1: smaller than the number of processes, 2")
