"""Settings of how a step is computed: kept by a run, changed by an explicit option, and stated in every record."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import tests.support.tiny as tiny
from ablations import launch
from diffussm.commands.train import train
from diffussm.diffusion.gaussian import Losses
from diffussm.errors import UserError
from diffussm.run.claim import assume_owner_dead
from diffussm.run.execution import held_executions
from diffussm.run.request import kept_settings, order_settings, step_settings
from diffussm.run.runner import TaskRunner
from diffussm.run.tasks import pending_tasks, permanent_failure
from diffussm.store.execution import Execution, SettingsFiles, StepSettings
from diffussm.store.rundir import RunDir
from diffussm.training.batches import Batch
from diffussm.training.trainer import Trainer
from tests.support.managing import folder, printed, rows
from tests.support.tiny_grid import arguments
from tests.training.test_resume import assert_same, outcome

PLAIN = {"compile": "none", "checkpointing": "none", "micro_batch": 0}


def out_of_memory(patch: pytest.MonkeyPatch, images: int, step: int) -> None:
    """From a step on there is memory for so many images at once."""
    usual = Trainer._backward

    def limited(self: Trainer, micro_batch: Batch) -> Losses:
        if self.state.step >= step and len(micro_batch.images) > images:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return usual(self, micro_batch)

    patch.setattr(Trainer, "_backward", limited)


def work(run: RunDir) -> None:
    TaskRunner(run.path).run_pending(assume_owner_dead)


def settings_in_records(run: RunDir) -> dict[int, Any]:
    """Step -> by which settings, and from which step on, its record says that it was trained."""
    found = [json.loads(path.read_bytes()) for path in run.path.glob("milestones/*/*/record.json")]
    return {record["step"]: record["provenance"]["step_settings"] for record in found}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    run = tiny.run_folder(tmp_path_factory.mktemp("undisturbed"))
    work(run)
    assert settings_in_records(run) == {step: [{**PLAIN, "step": 0}] for step in (8, 16, 24)}
    return outcome(run)


def test_a_run_that_ran_out_of_memory_goes_on_with_fewer_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, Any]
) -> None:
    run = tiny.run_folder(tmp_path)
    out_of_memory(monkeypatch, images=3, step=13)
    with pytest.raises(torch.OutOfMemoryError):
        work(run)
    code = run.state().code
    assert permanent_failure(run, run, code)
    with pytest.raises(torch.OutOfMemoryError):
        work(run)
    assert order_settings(run, {"micro_batch": 3})
    assert permanent_failure(run, run, code) is None  # a launch tries again
    assert not order_settings(run, {"micro_batch": 3})
    work(run)
    assert pending_tasks(run) == []
    changed = [{**PLAIN, "step": 0}, {**PLAIN, "micro_batch": 3, "step": 8}]
    assert settings_in_records(run) == {8: changed[:1], 16: changed, 24: changed}
    assert run.execution() == Execution.model_validate(json.loads((run.path / "machine.json").read_bytes()))
    for row, expected in zip(outcome(run)["rows"], undisturbed["rows"], strict=True):
        assert row == pytest.approx(expected, rel=1e-5)


def test_a_run_keeps_its_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever a later config says, unless an option changes them."""
    monkeypatch.chdir(tmp_path)
    changes = {**tiny.SETTINGS, "training.steps": 8, "training.milestones": []}
    first, later = ({**changes, "training.micro_batch": micro_batch} for micro_batch in (3, 2))
    assert train("digits", first, None, False, False, None, False) == 0
    (path,) = Path("runs").iterdir()
    run = RunDir(path.resolve())
    capsys.readouterr()
    assert train("digits", {**later, "training.steps": 16}, None, False, False, None, False) == 0
    kept = f"training.micro_batch = 2: {run.run_id} keeps 3; --micro-batch 2 changes it"
    assert f"warning: {kept}\n" in capsys.readouterr().err
    assert kept_settings(run, run.config(), {"training.micro_batch": 3, "training.steps": 9}) == []
    assert step_settings(run, run.config()) == run.execution()
    capsys.readouterr()
    assert (
        train("digits", {**later, "training.steps": 24}, None, False, False, None, False, None, {"micro_batch": 2}) == 0
    )
    assert "warning" not in capsys.readouterr().err
    three, two = ({**PLAIN, "micro_batch": n, "step": step} for n, step in ((3, 0), (2, 16)))
    assert settings_in_records(run) == {8: [three], 16: [three], 24: [three, two]}


def test_settings_that_are_ordered_before_the_first_start(tmp_path: Path) -> None:
    run, plain = tiny.run_folder(tmp_path / "ordered"), tiny.run_folder(tmp_path / "set", training__micro_batch=4)
    assert order_settings(run, {"micro_batch": 4})
    work(run)
    work(plain)
    assert run.execution() == plain.execution()
    assert_same(outcome(run), outcome(plain))
    assert settings_in_records(run)[24] == [{**PLAIN, "micro_batch": 4, "step": 0}]


def test_a_replay_changes_settings_where_the_run_did(tmp_path: Path) -> None:
    """Else its bits would not be those of the weights that were kept."""
    run = tiny.run_folder(tmp_path, training__steps=10, training__milestones=[8])
    work(run)
    order_settings(run, {"micro_batch": 2, "checkpointing": "block"})
    tiny.run_folder(tmp_path, training__milestones=[8])
    work(run)
    tiny.run_folder(tmp_path, training__milestones=[8, 16])
    for request in run.requests():
        run.allow_replay(request)
    work(run)  # compares the weights of steps 8, 10 and 24 with the kept ones
    assert run.weights(16, "ema").exists()
    assert [(held.micro_batch, end) for held, end in held_executions(run, run.execution(), 24)] == [(0, 10), (2, 24)]


def test_from_which_step_on_settings_held(tmp_path: Path) -> None:
    files, first = SettingsFiles(tmp_path), StepSettings()
    fewer, again = StepSettings(micro_batch=2), StepSettings(checkpointing="block")
    for attempt, step, settings in ((1, 0, first), (2, 20, fewer), (3, 30, fewer), (4, 40, again)):
        files.hold(settings, attempt, step, first)
    found = [(held.step, held.micro_batch, held.checkpointing) for held in files.held(first, 100)]
    assert found == [(0, 0, "none"), (20, 2, "none"), (40, 0, "block")]
    assert [held.step for held in files.held(first, 40)] == [0, 20]  # weights of step 40 were computed before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["settings-2.json", "settings-4.json"]
    files.hold(fewer, 10, 15, first)  # newer checkpoints were damaged
    assert [(held.step, held.micro_batch) for held in files.held(first, 100)] == [(0, 0), (15, 2)]


def test_a_change_is_undone_where_the_training_began_again_before_it(tmp_path: Path) -> None:
    files, first, fewer = SettingsFiles(tmp_path), StepSettings(), StepSettings(micro_batch=2)
    files.hold(fewer, 2, 100, first)
    files.hold(first, 3, 50, first)  # the checkpoint of step 100 was damaged, and the change was taken back
    assert {held.micro_batch for held in files.held(first)} == {0}
    files.hold(fewer, 4, 120, first)
    files.hold(fewer, 5, 60, first)  # that of step 120 was damaged
    assert [(held.step, held.micro_batch) for held in files.held(first)][-1] == (60, 2)


def test_options_of_launch_and_manage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tmp_path / "runs"
    where = arguments(runs, "--only", "M = 2*", "--executor", "debug")
    with monkeypatch.context() as patch:
        out_of_memory(patch, images=3, step=13)
        with pytest.raises(torch.OutOfMemoryError):
            launch.main(where)
        run = folder(runs, "m2p1")
        assert rows(capsys, runs)["M = 2, P = 1"]["state"] == "failed"
        assert printed(capsys, "settings", "--runs", str(runs), "--micro-batch", "4").endswith(
            "1 run changed; it holds from their next start on.\n"
        )
        assert rows(capsys, runs)["M = 2, P = 1"]["state"] == "pending"
        with pytest.raises(torch.OutOfMemoryError):
            launch.main(where)
        retried = printed(capsys, "retry", "--failed", "--runs", str(runs), "--checkpointing", "block", "--json")
        assert json.loads(retried) == [run.run_id]
        assert step_settings(run, run.config()).step_settings == {**PLAIN, "checkpointing": "block", "micro_batch": 4}
        assert launch.main([*where, "--micro-batch", "3"]) == 0
    capsys.readouterr()
    assert launch.main([*where, "--dry-run", "--set=training.micro_batch=5"]) == 0
    assert f"warning: training.micro_batch = 5: {run.run_id} keeps 3; --micro-batch 5" in capsys.readouterr().out
    assert settings_in_records(run)[24][-1] == {**PLAIN, "checkpointing": "block", "micro_batch": 3, "step": 8}
    with pytest.raises(UserError, match="settings: give --micro-batch"):
        printed(capsys, "settings", "--runs", str(runs))


@pytest.mark.parametrize("name", ["settings/1.json", "settings-1.json"])
def test_what_is_damaged_is_named(name: str, tmp_path: Path) -> None:
    run = tiny.run_folder(tmp_path)
    order_settings(run, {"micro_batch": 4})
    (run.path / name).write_text("{")
    with pytest.raises(UserError, match=rf"{name}: is damaged: not valid JSON; delete it"):
        work(run)
