"""A damaged file costs a table the row of its run, with the file named as the reason, and nothing else."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ablations import launch, manage
from diffussm.store.rundir import RunDir
from reports import make_figures
from tests.support import damage

FIXTURE = Path(__file__).parents[1] / "fixtures" / "run_of_26dc89b" / "runs"
ARM = "M = 1, P = 2"
OTHERS = {"M = 2, P = 1", "M = 1, P = 1"}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return shutil.copytree(FIXTURE, tmp_path / "runs")


@pytest.fixture
def run(runs: Path) -> RunDir:
    return RunDir(next(runs.glob("digits-*")))


def listed(capsys: pytest.CaptureFixture[str], runs: Path) -> dict[str, Any]:
    capsys.readouterr()
    assert manage.main(["status", "--runs", str(runs), "--json"]) == 0
    return {row["arm"]: row for row in json.loads(capsys.readouterr().out)["runs"]}


def planned(capsys: pytest.CaptureFixture[str], runs: Path, *more: str) -> dict[str, Any]:
    (manifest,) = (runs / "grids").glob("*.json")
    settings = [
        f"--set={key}={json.dumps(value)}" for key, value in json.loads(manifest.read_text())["settings"].items()
    ]
    capsys.readouterr()
    words = ["--grid", "hourglass_vs_patch", "--seeds", "1", "--runs", str(runs), "--dry-run", "--json"]
    assert launch.main([*words, *settings, *more]) == 0
    return {row["arm"]: row for row in json.loads(capsys.readouterr().out)["runs"]}


def reported(capsys: pytest.CaptureFixture[str], runs: Path) -> dict[str, str]:
    """Arm to what its row of the report says."""
    out = runs.parent / "out"
    assert make_figures.main(["--runs", str(runs), "--out", str(out)]) == 0
    lines = (out / "hourglass_vs_patch" / "digits" / "runs.csv").read_text().splitlines()[1:]
    return {arm: line for line in lines for arm in {ARM, *OTHERS} if f'"{arm}"' in line}


@pytest.mark.parametrize("how", damage.EVERY_WAY)
def test_an_order(how: str, runs: Path, run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    damage.spoil(run.path / "orders" / "1.json", how)
    for rows in (
        listed(capsys, runs),
        planned(capsys, runs),
        planned(capsys, runs, "--executor", "slurm", "--profile", "cpu"),
    ):
        assert f"{run.path}/orders/1.json: is damaged" in rows[ARM]["reason"]
        assert rows.keys() == {ARM, *OTHERS}
        assert "damaged" not in str({arm: rows[arm] for arm in OTHERS})
    rows = reported(capsys, runs)
    assert f"{run.path}/orders/1.json: is damaged" in rows[ARM]
    assert rows.keys() == {ARM, *OTHERS}
    assert manage.main(["cancel", "--only", ARM, "--runs", str(runs)]) == 0
    assert listed(capsys, runs)[ARM]["state"] == "cancelled"


@pytest.mark.parametrize("part", ["requests/9157bcaa090b.json", "config.json"])
def test_what_a_run_is(part: str, runs: Path, run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    damage.spoil(run.path / part, "torn")
    rows = planned(capsys, runs)
    assert rows.keys() == {ARM, *OTHERS}
    if part != "config.json":  # a plan does not read it
        assert f"{part}: is damaged: not valid JSON" in rows[ARM]["reason"]
    assert reported(capsys, runs).keys() == listed(capsys, runs).keys() == {ARM, *OTHERS}


def test_a_file_in_the_place_of_a_folder(runs: Path, run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(run.path)
    run.path.write_text("")
    for rows in (listed(capsys, runs), planned(capsys, runs)):
        assert "Not a directory" in rows[ARM]["reason"]
        assert rows.keys() == {ARM, *OTHERS}
    assert "Not a directory" in reported(capsys, runs)[ARM]
