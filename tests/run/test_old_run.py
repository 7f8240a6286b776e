"""A run that version 26dc89b began is listed, continued and reported by today's code, with that version's numbers.

`tests/fixtures/run_of_26dc89b/runs` holds the files as that version wrote them: a run of 24 steps that SIGUSR2 stopped
at step 12; only the names of the machine and the path of the grid file were replaced. `expected.json` holds what the
same version got when nothing stopped it.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from ablations import launch
from diffussm.config import without_later_defaults
from diffussm.store.rundir import RunDir
from reports import make_figures
from tests.support.managing import rows

FIXTURE = Path(__file__).parents[1] / "fixtures" / "run_of_26dc89b"
EXPECTED = json.loads((FIXTURE / "expected.json").read_text())
EXPECTED["records"] = [record | {"key": without_later_defaults(record["key"])} for record in EXPECTED["records"]]
ARM = "M = 1, P = 2"
SETTINGS = json.loads((FIXTURE / "runs" / "grids" / "hourglass_vs_patch-digits.1.json").read_text())["settings"]


def run_below(runs: Path) -> RunDir:
    return RunDir(next(runs.glob("digits-*")))


def launch_arm(runs: Path) -> RunDir:
    """Launch the grid's one arm with the old run's settings; returns its run."""
    settings = [f"--set={key}={json.dumps(value)}" for key, value in SETTINGS.items()]
    where = ["--grid", "hourglass_vs_patch", "--only", ARM, "--seeds", "1", "--runs", str(runs)]
    assert launch.main([*where, "--executor", "debug", *settings]) == 0
    return run_below(runs)


def results(run: RunDir) -> dict[str, Any]:
    """Loss rows, weights and records of a run in the form of `expected.json`, without times and provenance."""
    losses = [{name: value for name, value in row.items() if name != "seconds_per_step"} for row in run.loss_rows()]
    weights = {}
    for step in run.kept_milestones("ema"):
        path = run.weights(step, "ema")
        norms = {name: float(np.linalg.norm(w.astype(np.float64))) for name, w in sorted(load_file(path).items())}
        weights[str(step)] = {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "norms": norms}
    paths = run.path.glob("milestones/*/*/record.json")
    found = sorted((json.loads(path.read_bytes()) for path in paths), key=lambda record: record["step"])
    return {"losses": losses, "weights": weights, "records": [compared(record) for record in found]}


def compared(record: dict[str, Any]) -> dict[str, Any]:
    """A record without times and provenance, and without what later versions add to a key."""
    key = without_later_defaults(record["key"])
    return {"run_id": record["run_id"], "step": record["step"], "key": key, "metrics": record["metrics"]}


def assert_close(got: Any, expected: Any, where: str = "") -> None:
    """Floats agree within 1e-4 relative, hashes of weights are not compared, and all else is equal."""
    if isinstance(expected, dict):
        assert got.keys() == expected.keys(), where
        for name in expected.keys() - {"sha256"}:
            assert_close(got[name], expected[name], f"{where}.{name}")
    elif isinstance(expected, list):
        assert len(got) == len(expected), where
        for number, value in enumerate(expected):
            assert_close(got[number], value, f"{where}[{number}]")
    elif isinstance(expected, float):
        assert got == pytest.approx(expected, rel=1e-4), where
    else:
        assert got == expected, where


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return shutil.copytree(FIXTURE / "runs", tmp_path / "runs")


def test_continued_to_the_same_end(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stopped = run_below(runs)
    assert stopped.trained_steps() == 12
    continued = launch_arm(runs)
    assert continued.path == stopped.path
    assert continued.owner() == 2  # a second attempt at the same run
    assert (continued.path / "train-2.jsonl").exists()
    new = launch_arm(tmp_path / "new")
    assert new.run_id == continued.run_id

    got, anew = results(continued), results(new)
    assert_close(got, EXPECTED)
    assert_close(anew, EXPECTED)
    if anew["weights"]["8"]["sha256"] == EXPECTED["weights"]["8"]["sha256"]:  # this processor rounds as that one did
        assert got == EXPECTED
        assert anew == EXPECTED

    row = rows(capsys, runs)[ARM]
    assert (row["state"], row["step"]) == ("done", 24)


def test_listed_in_its_stored_state(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = rows(capsys, runs)
    assert found.keys() == {"M = 2, P = 1", ARM, "M = 1, P = 1"}
    assert found[ARM]["step"] == 12
    assert found[ARM]["run"] == run_below(runs).run_id
    assert (found[ARM]["state"], found[ARM]["attempts"]) == ("preempted", 1)
    assert found["M = 2, P = 1"]["state"] == "pending"


def test_reported(runs: Path, tmp_path: Path) -> None:
    def reported() -> pd.DataFrame:
        assert make_figures.main(["--runs", str(runs), "--out", str(tmp_path / "out")]) == 0
        table = pd.read_csv(tmp_path / "out" / "hourglass_vs_patch" / "digits" / "runs.csv")
        return table.set_index("arm")

    before = reported()
    assert (before.run_id[ARM], before.state[ARM]) == (run_below(runs).run_id, "missing")
    launch_arm(runs)
    after = reported()
    assert (after.state[ARM], after.last_measured_step[ARM]) == ("done", 24)
