"""Killed anywhere and started again, a run ends bit for bit as if undisturbed. The kills are real: SIGKILL.

Each attempt is a process of its own, forked from a server that has imported torch already.
"""

import json
import math
import os
import shutil
import signal
from collections.abc import Callable
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Any

import pytest
import torch

import tests.support.tiny as tiny
from diffussm.models import blocks
from diffussm.run.claim import assume_owner_dead
from diffussm.run.runner import TaskRunner
from diffussm.run.tasks import Task
from diffussm.stopping import Stopped, Superseded
from diffussm.store import records
from diffussm.store.integrity import hashed_file
from diffussm.store.rundir import RunDir
from diffussm.store.state import UNSTARTED
from diffussm.training.state import TrainingState
from diffussm.training.trainer import Trainer
from tests.support.processes import FORKS

NEVER = math.inf


def die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at_call(count: int, then: Callable[..., Any], usual: Callable[..., Any]) -> Callable[..., Any]:
    """`usual`, but `then` at the count-th call."""
    calls = iter(range(1, 10**9))
    return lambda *args, **kwargs: (then if next(calls) == count else usual)(*args, **kwargs)


def half_a_piece(file: FileIO, piece: memoryview) -> None:
    file.write(piece[: len(piece) // 2])
    die()


def before_step(count: int) -> None:
    Trainer.step = at_call(count, die, Trainer.step)  # type: ignore[method-assign]


def before_checkpoint(count: int) -> None:
    """The milestone's weights are written, its checkpoint is not."""
    TrainingState.save = at_call(count, die, TrainingState.save)  # type: ignore[method-assign]


def inside_checkpoint(count: int) -> None:
    usual = hashed_file.write_piece
    torn = at_call(count, half_a_piece, usual)
    hashed_file.write_piece = lambda file, piece: (torn if ".pt." in str(file.name) else usual)(file, piece)


def before_record(count: int) -> None:
    records.write = at_call(count, die, records.write)


def nothing(_: int) -> None:
    pass


def attempt(folder: Path, arrange: Callable[[int], None], count: int, checkpoint_minutes: float) -> None:
    torch.set_num_threads(1)
    arrange(count)
    TaskRunner(folder, checkpoint_minutes).run_pending(assume_owner_dead)


def start(
    folder: Path, arrange: Callable[[int], None], count: int = 0, checkpoint_minutes: float = NEVER, seconds: int = 60
) -> int | None:
    process = FORKS.Process(target=attempt, args=(folder, arrange, count, checkpoint_minutes))
    process.start()
    process.join(seconds)
    return process.exitcode


def outcome(run: RunDir) -> dict[str, Any]:
    """All that must be equal: newest state, kept weights, loss rows and records without times and provenance."""
    rows = [{name: value for name, value in row.items() if name != "seconds_per_step"} for row in run.loss_rows()]
    paths = sorted(run.path.glob("milestones/*/*/record.json"))
    found = [json.loads(path.read_text()) for path in paths]
    return {
        "state": torch.load(run.checkpoints()[0], weights_only=True),
        "weights": {str(p.relative_to(run.path)): p.read_bytes() for p in run.path.glob("milestones/*/*.safetensors")},
        "samples": {str(p.relative_to(run.path)): p.read_bytes() for p in run.path.glob("milestones/*/*/samples.*")},
        "rows": rows,
        "records": [{name: r[name] for name in ("run_id", "step", "key", "metrics")} for r in found],
    }


def assert_same(found: Any, expected: Any) -> None:
    """Equal to the last bit, tensors inside nested containers too."""
    assert type(found) is type(expected)
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name in expected:
            assert_same(found[name], expected[name])
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    elif isinstance(expected, torch.Tensor):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    else:
        assert found == expected


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    run = tiny.run_folder(tmp_path_factory.mktemp("undisturbed"))
    assert start(run.path, nothing) == 0
    expected = outcome(run)
    assert expected["state"]["step"] == 24
    assert len(expected["records"]) == 3
    return expected


KILLS: list[tuple[Callable[[int], None], int, float]] = [
    (before_step, 6, NEVER),  # before the first checkpoint: all over again
    (before_checkpoint, 1, NEVER),
    (before_step, 12, NEVER),
    (inside_checkpoint, 2, NEVER),
    (inside_checkpoint, 3, 0.0),  # a checkpoint at every step
    (before_record, 2, NEVER),
]


@pytest.mark.slow
def test_killed_again_and_again(tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    run = tiny.run_folder(tmp_path)
    for arrange, count, checkpoint_minutes in KILLS:
        assert start(run.path, arrange, count, checkpoint_minutes) == -signal.SIGKILL
    assert start(run.path, nothing) == 0
    assert_same(outcome(run), undisturbed)
    assert run.owner() == len(KILLS)  # the last kill met an evaluation, the training was done
    assert not list(run.path.rglob("*.tmp"))
    assert run.state().phase == "done"


@pytest.mark.parametrize(("arrange", "count", "checkpoint_minutes"), KILLS)
def test_killed_once(
    arrange: Callable[[int], None], count: int, checkpoint_minutes: float, tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    run = tiny.run_folder(tmp_path)
    assert start(run.path, arrange, count, checkpoint_minutes) == -signal.SIGKILL
    assert start(run.path, nothing) == 0
    assert_same(outcome(run), undisturbed)


def compiled_by(compiler: str, then: Callable[[int], None], count: int) -> None:
    blocks.COMPILER = compiler
    then(count)


@pytest.mark.parametrize(
    ("how", "compiler"),
    [
        ({"training__micro_batch": 3}, ""),
        ({"training__checkpointing": "block"}, ""),
        pytest.param({"training__compile": "block", "training__micro_batch": 4}, "aot_eager", marks=pytest.mark.slow),
        pytest.param({"training__compile": "block", "training__micro_batch": 4}, "inductor", marks=pytest.mark.slow),
    ],
)
def test_killed_once_however_it_is_computed(
    how: dict[str, Any], compiler: str, tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    """Each way to compute has bits of its own, which are the same after a kill."""
    if compiler == "inductor" and not shutil.which("g++"):
        pytest.skip("no compiler of C++")
    calm, killed = tiny.run_folder(tmp_path / "calm", **how), tiny.run_folder(tmp_path / "killed", **how)
    assert start(calm.path, partial(compiled_by, compiler, nothing), seconds=600) == 0
    assert start(killed.path, partial(compiled_by, compiler, before_step), 12, seconds=600) == -signal.SIGKILL
    assert start(killed.path, partial(compiled_by, compiler, nothing), seconds=600) == 0
    assert_same(outcome(killed), outcome(calm))
    for row, expected in zip(outcome(calm)["rows"], undisturbed["rows"], strict=True):
        assert row == pytest.approx(expected, rel=1e-5)


def test_a_longer_budget_extends_the_run(tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    short = tiny.run_folder(tmp_path, training__steps=16)
    assert start(short.path, nothing) == 0
    long = tiny.run_folder(tmp_path)
    assert long.path == short.path
    assert start(long.path, nothing) == 0
    assert_same(outcome(long), undisturbed)


def test_a_new_evaluation_trains_nothing(tmp_path: Path) -> None:
    run = tiny.run_folder(tmp_path)
    assert start(run.path, nothing) == 0
    tiny.run_folder(tmp_path, evaluation__guidance=2.0)
    assert start(run.path, before_step, 1) == 0  # would die if it made a step
    assert len(list(run.path.glob("milestones/*/*/record.json"))) == 6


def test_a_superseded_attempt_writes_no_checkpoint(tmp_path: Path) -> None:
    run = tiny.run_folder(tmp_path)
    assert run.claim() == 1
    assert run.claim(expected_owner=1) == 2
    with pytest.raises(Superseded, match=r"attempt 2 \(process \d+ on .+\) owns the folder"):
        TaskRunner(run.path).execute(Task(run.path, "train"), 1)
    assert run.checkpoints() == []
    assert run.state() is UNSTARTED


def test_sigterm_checkpoints_and_the_rest_follows(tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    run = tiny.run_folder(tmp_path)
    runner = TaskRunner(run.path)
    runner.stop.set(Stopped("SIGTERM"))  # as the signal's handler does
    with pytest.raises(Stopped, match="SIGTERM at step 1"):
        runner.run_pending(assume_owner_dead)
    assert run.trained_steps() == 1
    assert run.state().phase == "stopped"
    assert start(run.path, nothing) == 0
    assert_same(outcome(run), undisturbed)
