"""A milestone behind the last checkpoint, whose weights were not kept: refused, costed, and had by a replay."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save

import tests.support.tiny as tiny
from ablations import launch
from diffussm.errors import UserError
from diffussm.run.claim import assume_owner_dead
from diffussm.run.runner import TaskRunner
from diffussm.run.tasks import pending_tasks
from diffussm.stopping import Stopped
from diffussm.store.rundir import RunDir
from diffussm.training.state import ReplayMismatch

SETTINGS = {key: value for key, value in tiny.SETTINGS.items() if key != "model.hourglass"}


def arguments(runs: Path, milestones: list[int], *more: str) -> list[str]:
    settings = [f"--set={key}={value}" for key, value in (SETTINGS | {"training.milestones": milestones}).items()]
    where = ["--grid", "hourglass_vs_patch", "--only", "M = 1, P = 2", "--seeds", "1", "--runs", str(runs)]
    return [*where, "--executor", "debug", *settings, *more]


def test_refused_then_costed_then_had(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert launch.main(arguments(tmp_path / "a", [8])) == 0
    with pytest.raises(UserError, match=r"kept no weights of step 12.*--replay"):
        launch.main(arguments(tmp_path / "a", [8, 12, 20]))
    capsys.readouterr()
    assert launch.main(arguments(tmp_path / "a", [8, 12, 20], "--dry-run")) == 0
    stdout = capsys.readouterr().out
    assert "unreachable (the weights of step 12 were not kept; --replay trains 20 steps again)" in stdout
    assert launch.main(arguments(tmp_path / "a", [8, 12, 20], "--replay")) == 0
    assert launch.main(arguments(tmp_path / "b", [8, 12, 20])) == 0
    replayed, straight = (RunDir(next((tmp_path / name).glob("digits*"))) for name in "ab")
    for step in (8, 12, 20, 24):
        assert replayed.weights(step, "ema").read_bytes() == straight.weights(step, "ema").read_bytes()
    assert len(list(replayed.path.glob("milestones/*/*/record.json"))) == 4
    assert replayed.trained_steps() == 24
    assert replayed.replay.checkpoints() == []
    assert [row["step"] for row in replayed.loss_rows()] == [8, 10, 20, 24]


def asked_late(tmp_path: Path) -> RunDir:
    """Trained with milestones 8 and 24, and then requested for 16 too."""
    run = tiny.run_folder(tmp_path, training__milestones=[8])
    TaskRunner(run.path).run_pending(assume_owner_dead)
    tiny.run_folder(tmp_path, training__milestones=[8, 16])
    assert pending_tasks(run) == []  # nobody allowed a replay
    for request in run.requests():
        run.allow_replay(request)
    assert [work.kind for work in pending_tasks(run)] == ["train"]
    return run


def test_a_replay_that_is_stopped_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = asked_late(tmp_path)
    runner = TaskRunner(run.path)
    runner.stop.set(Stopped("SIGTERM"))
    with pytest.raises(Stopped):
        runner.run_pending(assume_owner_dead)
    assert [path.name for path in run.replay.checkpoints()] == ["000000001-2.pt"]
    TaskRunner(run.path).run_pending(assume_owner_dead)
    assert run.weights(16, "ema").exists()
    assert run.replay.checkpoints() == []


def test_a_replay_that_leaves_the_trajectory_fails(tmp_path: Path) -> None:
    run = asked_late(tmp_path)
    path = run.weights(8, "ema")
    weights = load(path.read_bytes())
    name = next(iter(weights))
    path.write_bytes(save(weights | {name: weights[name] + torch.finfo().eps}))
    with pytest.raises(ReplayMismatch, match="ema weights of step 8 are not those kept"):
        TaskRunner(run.path).run_pending(assume_owner_dead)
    assert run.state().phase == "failed"
    assert not run.weights(16, "ema").exists()
