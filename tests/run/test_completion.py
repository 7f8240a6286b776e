"""A task that ends without an error and is still pending has failed, with a reason: nothing is done over and over."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

import tests.support.tiny as tiny
from ablations.slurm.node.evaluation import evaluate
from ablations.slurm.node.interruption import Interruption
from diffussm.host.source import origin
from diffussm.run.claim import assume_owner_dead
from diffussm.run.completion import Unfinished
from diffussm.run.runner import TaskRunner
from diffussm.run.tasks import is_done, pending_tasks, reason_to_give_up
from diffussm.store import records
from diffussm.store.rundir import RunDir
from diffussm.store.writing import write_atomically
from diffussm.training import loss_log
from diffussm.training.state import TrainingState


def nothing(*_: object) -> None:
    """In the place of a function that writes."""


def trained(runs: Path) -> RunDir:
    run = tiny.run_folder(runs, training__steps=8, training__milestones=[8])
    TaskRunner(run.path).run_pending(assume_owner_dead, kinds=("train",))
    return run


def work(run: RunDir) -> None:
    TaskRunner(run.path).run_pending(assume_owner_dead)


@pytest.mark.parametrize(
    ("write", "problem"),
    [
        (nothing, "is missing"),
        (lambda _, path: write_atomically(path, b"{}"), "is not valid"),
    ],
)
def test_an_evaluation_without_its_record(
    write: Callable[..., None], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trained(tmp_path)
    monkeypatch.setattr(records, "write", write)
    (task,) = pending_tasks(run)
    with pytest.raises(Unfinished, match=problem):
        work(run)
    assert task.folder.owner() == 1
    state = task.folder.state()
    assert (state.phase, state.is_transient) == ("failed", False)
    assert f"{task.folder.path / 'record.json'} {problem}" in state.reason
    assert "Unfinished: measured step 8" in reason_to_give_up(run, origin()["code"])  # by which a pool ends the run


@pytest.mark.usefixtures("_signals")
def test_the_evaluator_of_a_cluster_gives_up_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = trained(tmp_path)
    monkeypatch.setattr(records, "write", nothing)
    (task,) = pending_tasks(run)
    monkeypatch.setattr("diffussm.run.runner.redirect_output", nothing)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    evaluate(tmp_path, [run.run_id], Interruption())
    assert task.folder.owner() == 1
    assert "is missing" in task.folder.state().reason


@pytest.mark.parametrize(
    ("method", "problem"),
    [("save", "the newest checkpoint in .* is of step 0"), ("save_weights", "8/ema.safetensors is missing")],
)
def test_a_training_without_its_files(
    method: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny.run_folder(tmp_path, training__steps=8, training__milestones=[8])
    monkeypatch.setattr(TrainingState, method, nothing)
    with pytest.raises(Unfinished, match=f"trained to step 8, but .*{problem}"):
        work(run)
    assert run.owner() == 1
    assert run.state().phase == "failed"


def test_a_replay_without_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = trained(tmp_path)
    tiny.run_folder(tmp_path, training__steps=8, training__milestones=[4, 8])
    for request in run.requests():
        run.allow_replay(request)
    monkeypatch.setattr(TrainingState, "save_weights", nothing)
    with pytest.raises(Unfinished, match=r"4/ema\.safetensors is missing"):
        work(run)
    assert run.owner() == 2
    assert run.state().reason.startswith("Unfinished: trained to step 4, but ")


@pytest.mark.parametrize("log", [None, b'\0\n{"step": 8, "seconds_per_step": NaN}\n'])
def test_a_loss_log_that_is_gone_or_damaged(log: bytes | None, tmp_path: Path) -> None:
    run = trained(tmp_path)
    run.loss_log(1).unlink()
    if log is not None:
        run.loss_log(1).write_bytes(log)
    (task,) = pending_tasks(run)
    work(run)
    assert is_done(run)
    assert task.folder.owner() == 1
    found = records.read(run.record(8, task.key))
    assert found is not None
    assert found.timing.keys() == {"evaluation_seconds"}


def test_a_record_never_holds_what_cannot_be_read(tmp_path: Path) -> None:
    run = trained(tmp_path)
    work(run)
    record = records.read(next(run.path.glob("milestones/8/*/record.json")))
    assert record is not None
    with pytest.raises(ValueError, match="timing: not finite: seconds_per_step"):
        records.Record(**{**dict(record), "timing": {"seconds_per_step": float("nan")}})


def test_the_loss_log_is_on_disk_before_a_milestone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tiny.run_folder(tmp_path, training__steps=8, training__milestones=[4, 8])
    events: list[str] = []

    def fsync(_: int) -> None:
        rows = run.loss_log(1).read_text().splitlines()  # what has left the buffer
        events.append(f"rows to step {json.loads(rows[-1])['step']}")

    def save_weights(state: TrainingState, run: RunDir, kind: str, _: object) -> None:
        events.append(f"weights of step {state.step}")
        write_atomically(run.weights(state.step, kind), b"")

    monkeypatch.setattr(loss_log, "os", SimpleNamespace(fsync=fsync, SEEK_END=os.SEEK_END))
    monkeypatch.setattr(TrainingState, "save_weights", save_weights)
    TaskRunner(run.path).run_pending(assume_owner_dead, kinds=("train",))
    expected = [f"{what} step {step}" for step in (4, 8) for what in ("rows to", "weights of")]
    assert events == expected
