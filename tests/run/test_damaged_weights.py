"""Damaged checkpoints and milestones are set aside, and what can be made again ends bit for bit as undisturbed."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import tests.support.tiny as tiny
from diffussm.commands.evaluate import evaluate_run
from diffussm.distributed.group import SINGLE_PROCESS
from diffussm.errors import UserError
from diffussm.run.claim import assume_owner_dead
from diffussm.run.runner import TaskRunner
from diffussm.run.tasks import Task, pending_tasks
from diffussm.store.integrity.stamp import DamagedFile
from diffussm.store.rundir import RunDir
from tests.support import damage, former_files


def finish(run: RunDir) -> RunDir:
    TaskRunner(run.path).run_pending(assume_owner_dead)
    return run


def weights(run: RunDir) -> dict[int, bytes]:
    return {step: run.weights(step, "ema").read_bytes() for step in run.kept_milestones("ema")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A run that nothing disturbed."""
    return finish(tiny.run_folder(tmp_path_factory.mktemp("whole")))


@pytest.fixture
def trained(whole: RunDir, tmp_path: Path) -> RunDir:
    """A run that was trained to its end, and never evaluated."""
    run = RunDir(shutil.copytree(whole.path, tmp_path / whole.run_id))
    for folder in run.evaluations():
        shutil.rmtree(folder.path)
    return run


@pytest.fixture
def asked_more(trained: RunDir) -> RunDir:
    """A run that was trained to step 24, and is to be trained to step 32."""
    return tiny.run_folder(trained.path.parent, training__steps=32, training__milestones=[8, 16, 24, 32])


HURT: dict[str, Callable[[Path], None]] = {
    "one bit": lambda path: damage.flip(path, 8 * 9000 + 1),
    "zeros": lambda path: damage.zero(path, 8192),
    "cut": lambda path: damage.cut(path, 1000),
    "a folder": lambda path: damage.corrupt(path, "a folder"),
    "of another step": lambda path: path.write_bytes(path.with_name("000000016-1.pt").read_bytes()),
}


@pytest.mark.parametrize("how", HURT)
def test_a_damaged_newest_checkpoint(
    how: str, asked_more: RunDir, whole: RunDir, capfd: pytest.CaptureFixture[str]
) -> None:
    path = asked_more.checkpoint(24, 1)
    HURT[how](path)
    TaskRunner(asked_more.path).run_pending(assume_owner_dead, ("train",))
    logged = capfd.readouterr().err
    assert f"{path}: is damaged: " in logged
    assert "set aside as 000000024-1.pt.damaged" in logged
    assert "the training continues from checkpoint 000000016-1.pt" in logged
    assert path.with_name("000000024-1.pt.damaged").exists()
    assert asked_more.checkpoint(32, 2).exists()
    assert weights(asked_more).items() >= weights(whole).items()


def test_no_intact_checkpoint(asked_more: RunDir, whole: RunDir, capfd: pytest.CaptureFixture[str]) -> None:
    for path in asked_more.checkpoints():
        damage.zero(path, 0)
    TaskRunner(asked_more.path).run_pending(assume_owner_dead, ("train",))
    assert "the training continues from step 0, because no other checkpoint is left" in capfd.readouterr().err
    assert len(list((asked_more.path / "checkpoints").glob("*.damaged"))) == 2
    assert weights(asked_more).items() >= weights(whole).items()


def test_another_runs_checkpoint(asked_more: RunDir, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    other = finish(tiny.run_folder(tmp_path / "other", seed=1, training__milestones=[24]))
    shutil.copy(other.checkpoint(24, 1), asked_more.checkpoint(24, 1))
    TaskRunner(asked_more.path).run_pending(assume_owner_dead, ("train",))
    assert f"holds state of step 24 of run {other.run_id}" in capfd.readouterr().err


def test_a_checkpoint_of_before_goes_on(asked_more: RunDir, capfd: pytest.CaptureFixture[str]) -> None:
    path = asked_more.checkpoint(24, 1)
    former_files.checkpoint(path)
    TaskRunner(asked_more.path).run_pending(assume_owner_dead, ("train",))
    assert f"{path}: was written by an earlier version, without a digest" in capfd.readouterr().err
    assert asked_more.trained_steps() == 32


@pytest.mark.parametrize("step", [8, 24])
def test_a_damaged_milestone_is_made_again(
    step: int, trained: RunDir, whole: RunDir, capfd: pytest.CaptureFixture[str]
) -> None:
    """From a checkpoint of that step, or by a replay."""
    path = trained.weights(step, "ema")
    damage.zero(path, 4096)
    finish(trained)
    logged = capfd.readouterr().err
    assert f"{path}: is damaged: its content does not have the SHA-256 that it states; set aside as " in logged
    assert (f"{path}: made again from checkpoint 000000024-1.pt" in logged) == (step == 24)
    assert weights(trained) == weights(whole)
    assert path.with_name("ema.safetensors.damaged").exists()
    assert len(list(trained.path.glob("milestones/*/*/record.json"))) == 3
    assert pending_tasks(trained) == []


def test_another_steps_weights(trained: RunDir, whole: RunDir, capfd: pytest.CaptureFixture[str]) -> None:
    shutil.copy(trained.weights(16, "ema"), trained.weights(24, "ema"))
    finish(trained)
    assert "holds ema of step 16 of run" in capfd.readouterr().err
    assert weights(trained) == weights(whole)


def test_an_evaluation_by_hand_sets_aside_and_says_what_to_do(trained: RunDir) -> None:
    damage.flip(trained.weights(16, "ema"), -9)
    with pytest.raises(DamagedFile, match=r"set aside as ema\.safetensors\.damaged; the next launch of the run makes"):
        evaluate_run(trained, 16, {}, SINGLE_PROCESS)
    assert not trained.weights(16, "ema").exists()
    assert next(task.kind for task in pending_tasks(trained)) == "train"


def test_the_evaluation_that_met_damage_may_be_tried_again(trained: RunDir) -> None:
    damage.flip(trained.weights(16, "ema"), -9)
    task = next(task for task in pending_tasks(trained) if task.step == 16)
    number = task.folder.claim()
    assert number
    with pytest.raises(DamagedFile):
        TaskRunner(trained.path).execute(task, number)
    state = task.folder.state()
    assert (state.phase, state.is_transient) == ("failed", True)
    assert "is damaged" in state.reason


def test_deleted_weights_are_lost_until_a_replay_is_asked_for(trained: RunDir) -> None:
    trained.weights(8, "ema").unlink()
    assert Task(trained.path, "train") not in pending_tasks(trained)
    with pytest.raises(UserError, match=r"no ema weights are kept of this step"):
        evaluate_run(trained, 8, {}, SINGLE_PROCESS)
