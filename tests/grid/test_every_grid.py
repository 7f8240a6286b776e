"""Every grid on every embedded base, from launch to figures: a few steps of a small model on the real data."""

import itertools
import warnings
from pathlib import Path

import pytest

from ablations import launch
from ablations.grid import reading as grids
from ablations.grid.arms import arms as arms_of
from reports import make_figures
from tests.support.fitting_grids import fitting

SETTINGS = {
    "model.width": 16,
    "model.depth": 1,
    "training.batch": 4,
    "training.steps": 4,
    "training.milestones": [2],
    "evaluation.samples": 8,
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "base"), fitting(["digits", "mnist", "photos"]))
def test_every_grid_runs_on_every_base(name: str, base: str, tmp_path: Path) -> None:
    given: dict[str, object] = dict(SETTINGS)
    if name == "model_scale":
        given = {key: value for key, value in SETTINGS.items() if not key.startswith("model.")}
    if name == "equal_macs":  # its most expensive arm has a fifth of the steps
        given |= {"training.steps": 40, "training.milestones": [20]}
    settings = [f"--set={key}={value}" for key, value in given.items()]
    asked = ["--grid", name, "--base", base, "--seeds", "1", "--executor", "debug", "--runs", str(tmp_path / "runs")]
    assert launch.main([*asked, *settings]) == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert make_figures.main(["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]) == 0
    folder = tmp_path / "out" / name / base
    arms = [arm.name for arm in arms_of(grids.load(name))]
    results = (folder / "results.md").read_text()
    assert all(f"| {arm} | 1 done |" in results for arm in arms)
    names = ("fid_over_steps", "samples", "samples_over_steps")
    assert all((folder / f"{stem}.{kind}").exists() for stem, kind in itertools.product(names, ("png", "csv")))
