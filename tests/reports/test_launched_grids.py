"""Reports of grids that are launched here: which arms are compared, and at which steps."""

import json
from pathlib import Path

import pandas as pd

import tests.support.tiny as tiny
from ablations import launch
from reports import make_figures
from tests.support.grid_file import HEADER


def launched(tmp_path: Path, grid: str) -> Path:
    """The figures' folder of a grid in a file, launched with two seeds."""
    (tmp_path / "mine.toml").write_text(grid)
    settings = [f"--set={k}={v}" for k, v in tiny.SETTINGS.items() if k not in ("model.hourglass", "model.state")]
    where = ["--runs", str(tmp_path / "runs")]
    given = ["--grid", str(tmp_path / "mine.toml"), "--seeds", "2", *where, "--executor", "debug"]
    assert launch.main([*given, *settings]) == 0
    assert make_figures.main([*where, "--out", str(tmp_path / "out")]) == 0
    return tmp_path / "out" / "mine" / "digits"


def test_arms_of_equal_macs_are_compared_at_the_steps_of_the_control(tmp_path: Path) -> None:
    arms = '[arms.S4D]\n[arms.attention]\nmodel.mixer = "attention"\n'
    folder = launched(tmp_path, f'{HEADER}base = "digits"\nseeds = 1\nbudget = "macs"\ncontrol = "S4D"\n{arms}')
    manifest = json.loads((tmp_path / "runs" / "grids" / "mine-digits.1.json").read_text())
    own = {entry["arm"]: entry["milestones"] for entry in manifest["runs"]}
    assert own["S4D"] == [8, 16, 24]
    assert own["attention"] != own["S4D"]
    gaps = pd.read_csv(folder / "differences.csv")
    assert list(zip(gaps.step, gaps.arm, gaps.other, strict=True)) == [
        (step, "S4D", "attention") for step in own["S4D"]
    ]
    runs = pd.read_csv(folder / "runs.csv").set_index("arm")
    assert set(runs.loc["attention"].last_measured_step) == {own["attention"][-1]}
    text = (folder / "results.md").read_text()
    assert "training MACs equal those of S4D, and steps are those of S4D" in text


def test_arms_of_different_axes_are_compared_on_shared_axes(tmp_path: Path) -> None:
    axes = (
        '[axes.mixer]\ns4d = { model.mixer = "s4d" }\nattention = { model.mixer = "attention" }\n'
        '[axes.heads]\n"1 head" = { model.heads = 1 }\n"2 heads" = { model.heads = 2 }\n'
        '[when]\nheads = { mixer = "attention" }\n'
    )
    folder = launched(tmp_path, f'{HEADER}base = "digits"\nseeds = 1\n{axes}')
    gaps = pd.read_csv(folder / "differences.csv")
    assert set(zip(gaps.arm, gaps.other, strict=True)) == {
        ("s4d", "attention, 1 head"),
        ("s4d", "attention, 2 heads"),
        ("attention, 1 head", "attention, 2 heads"),
    }


def test_a_grid_without_fid_has_tables(tmp_path: Path) -> None:
    settings = [
        f"--set={k}={v}" for k, v in tiny.SETTINGS.items() if k not in ("model.hourglass", "evaluation.metrics")
    ]
    given = ["--grid", "hourglass_vs_patch", "--seeds", "1", "--runs", str(tmp_path / "runs"), "--executor", "debug"]
    assert launch.main([*given, *settings, '--set=evaluation.metrics=["label_accuracy"]']) == 0
    assert make_figures.main(["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "hourglass_vs_patch" / "digits" / "results.md").read_text()
    assert "label accuracy" in text
    assert "FID (" not in text
