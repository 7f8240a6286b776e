"""What a plan says of the memory of GPUs."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ablations import launch
from ablations.gpu_memory import GpuMemory
from ablations.plan.plan import PlannedRun
from diffussm.cost.memory.fit import Fit
from diffussm.cost.named import named_config
from diffussm.errors import UserError
from diffussm.run.request import order_settings
from diffussm.store.rundir import RunDir
from tests.support import tiny
from tests.support.tiny_grid import arguments


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the programs of SLURM, if they are installed."""
    monkeypatch.setenv("PATH", str(tmp_path))


def planned(capsys: pytest.CaptureFixture[str], runs: Path, *more: str) -> list[str]:
    capsys.readouterr()
    assert (
        launch.main(
            [
                "--grid",
                "hourglass_vs_patch",
                "--base",
                "imagenet256",
                "--runs",
                str(runs),
                "--seeds",
                "2",
                "--dry-run",
                *more,
            ]
        )
        == 0
    )
    return capsys.readouterr().out.splitlines()


def starting(lines: list[str], start: str) -> list[str]:
    return [line for line in lines if line.startswith(start)]


ON_A100 = ("--executor", "slurm", "--profile", "a100")


def test_a_plan_for_gpus_says_what_the_largest_arm_takes_and_which_do_not_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = planned(capsys, tmp_path / "runs", *ON_A100)
    does_not_fit = (
        "about 80 of 80 GB a GPU at 32 images, which does not fit; micro_batch = 16 (50) or checkpointing = block "
        "(22) would"
    )
    assert starting(lines, "Memory") == [f"Memory (of M = 1, P = 1, which takes most): {does_not_fit}."]
    assert starting(lines, "warning: memory") == [f"warning: memory of M = 1, P = 1: {does_not_fit}"]


def test_one_arm_is_not_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = planned(capsys, tmp_path / "runs", *ON_A100, "--only", "M = 2, P = 1")
    fits = "about 55 of 80 GB a GPU at 32 images; micro_batch = 16: 38; checkpointing = block: 19"
    assert starting(lines, "Memory") == [f"Memory: {fits}."]
    assert starting(lines, "warning: memory") == []


def test_the_profile_has_the_memory_of_its_gpus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    only = (*ON_A100, "--only", "M = 2, P = 1")
    of_40 = planned(capsys, tmp_path / "runs", *only, "--set-slurm", "gpu_memory_gb=40")
    assert starting(of_40, "warning: memory of M = 2, P = 1: about 55 of 40 GB a GPU at 32 images, which does not fit")
    unknown = planned(capsys, tmp_path / "runs", *only, "--set-slurm", "gpu_memory_gb=0")
    assert starting(unknown, "Memory: about 55 GB a GPU at 32 images; ")
    on_16 = planned(capsys, tmp_path / "runs", *only, "--set-slurm", "nodes=2")
    assert starting(on_16, "Memory: about 35 of 80 GB a GPU at 16 images; ")
    with pytest.raises(UserError, match=r"gpu_memory_gb = 'much': allowed: a number"):
        planned(capsys, tmp_path / "runs", *only, "--set-slurm", "gpu_memory_gb=much")


def test_json_has_the_account_of_the_largest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = json.loads("\n".join(planned(capsys, tmp_path / "runs", *ON_A100, "--json")))
    found = content["gpu_memory"]
    assert (found["arm"], found["gpus"], found["images"], found["fits"]) == ("M = 1, P = 1", 8, 32, False)
    assert found["peak_bytes"] == pytest.approx(80.2e9, rel=0.001)
    assert any(warning.startswith("memory of M = 1, P = 1: ") for warning in content["warnings"])


def test_a_pool_knows_not_what_its_gpus_have(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diffussm.host.machine.gpus", lambda: ["0", "1"])
    lines = planned(capsys, tmp_path / "runs", "--only", "M = 2, P = 1", "--set=training.batch=16")
    assert starting(lines, "Memory: about 35 GB a GPU at 16 images; ")


def test_plans_for_cpus_say_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for executor in (["--executor", "slurm", "--profile", "cpu"], []):
        assert launch.main(arguments(tmp_path / "runs", *executor, "--dry-run")) == 0
        assert not starting(capsys.readouterr().out.splitlines(), "Memory")


def planned_xl(run: RunDir, steps: int) -> PlannedRun:
    """A run of XL with so many steps to go."""
    of_arm = SimpleNamespace(arm=SimpleNamespace(name="XL"), config=named_config("DiffuSSM-XL"))
    return cast(PlannedRun, SimpleNamespace(remaining_steps=steps, base="b", run=of_arm, run_dir=run))


def test_runs_that_are_trained_take_nothing(tmp_path: Path) -> None:
    runs = [planned_xl(RunDir(tmp_path), steps) for steps in (0, 1)]
    trained, new = (GpuMemory.of([run], lambda _: 8, 80, {}) for run in runs)
    assert (str(trained), trained.warnings, trained.as_json()) == ("", [], None)
    assert str(new).startswith("Memory: about 55 of 80 GB a GPU at 32 images; ")


def test_a_run_takes_what_its_settings_in_force_take(tmp_path: Path) -> None:
    run = tiny.run_folder(tmp_path)

    def memory(**more: Any) -> str:
        return str(GpuMemory.of([planned_xl(run, 1)], lambda _: 8, 80, more))

    def expected(**settings: Any) -> str:
        changes = {f"training.{name}": value for name, value in settings.items()}
        return f"Memory: {Fit(named_config('DiffuSSM-XL', changes), 8, 80)}."

    assert order_settings(run, {"micro_batch": 16})
    assert memory() == expected(micro_batch=16)
    assert memory(checkpointing="block") == expected(micro_batch=16, checkpointing="block") != memory()
    (run.path / "settings" / "1.json").write_text("{")
    assert memory() == expected()


def test_options_of_a_plan_change_what_runs_take(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = planned(capsys, tmp_path / "runs", *ON_A100, "--micro-batch", "8", "--checkpointing", "block")
    (sentence,) = starting(lines, "Memory (of ")
    assert sentence.endswith(" of 80 GB a GPU at 8 images.")
    assert not (tmp_path / "runs").exists()
