"""What a launch would do, in numbers that add up: for people, for programs, and fast."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ablations import launch
from ablations.plan import calibration
from ablations.plan.estimate import CORE_RATE
from ablations.plan.makespan import makespan
from diffussm.errors import UserError
from diffussm.host.machine import usable_cores
from diffussm.store.rundir import RunDir
from tests.support.grid_file import HEADER
from tests.support.processor import processor_seconds
from tests.support.tiny_grid import arguments

ROOT = Path(__file__).parents[2]


def planned(runs: Path, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
    capsys.readouterr()
    assert launch.main(arguments(runs, "--dry-run", "--json", *more)) == 0
    return json.loads(capsys.readouterr().out)


def test_rows_as_json_and_csv(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = planned(tmp_path, capsys)
    assert len(content["runs"]) == 3
    for row in content["runs"]:
        assert row["macs_per_step"] == 3 * row["macs_per_call"] * 7
        assert row["macs_total"] == row["macs_per_step"] * 24
        assert (row["evaluations"], row["evaluated"], row["state"]) == (3, 0, "new")
        sampling = 3 * 12 * 2 * row["macs_per_call"]  # milestones, samples, sampler steps
        assert row["seconds"] == pytest.approx((row["macs_total"] + sampling) / CORE_RATE)
        assert row["estimate"] == "assumed"
    assert content["worker_seconds_left"] == pytest.approx(sum(row["seconds"] for row in content["runs"]))
    calibrate = "--calibrate measures how long these runs take on this machine"
    assert content["estimate"] == f"assumed: 10 G MACs/s per core; {calibrate}"
    assert launch.main(arguments(tmp_path, "--dry-run", "--csv")) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["run"] for row in rows] == [row["run"] for row in content["runs"]]
    assert rows[0].keys() == content["runs"][0].keys()
    assert not any(tmp_path.iterdir())


def test_states_of_a_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert launch.main(arguments(tmp_path, "--executor", "debug", "--only", "M = 1, P = 2")) == 0
    run = RunDir(next(tmp_path.glob("digits*")))
    rows = {row["arm"]: row for row in planned(tmp_path, capsys)["runs"]}
    assert [rows[arm]["state"] for arm in ("M = 1, P = 2", "M = 1, P = 1")] == ["done", "new"]
    assert rows["M = 1, P = 2"]["seconds"] == 0
    assert planned(tmp_path, capsys, "--only", "M = 1, P = 2")["estimate"] == "nothing is left to do"
    record = next(run.path.glob("milestones/16/*/record.json"))
    record.unlink()
    row = {row["arm"]: row for row in planned(tmp_path, capsys)["runs"]}["M = 1, P = 2"]
    assert (row["state"], row["evaluated"], row["steps_left"]) == ("resumable", 2, 0)
    run.claim()
    row = {row["arm"]: row for row in planned(tmp_path, capsys)["runs"]}["M = 1, P = 2"]
    assert row["state"] == "running"


def test_json_and_csv_go_with_a_dry_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="need --dry-run"):
        launch.main(arguments(tmp_path, "--json"))


def test_calibration_replaces_the_assumption(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert launch.main(arguments(tmp_path, "--calibrate", "--only", "M = 1, P = 2")) == 0
    assert "1 of 1: M = 1, P = 2: 0.0" in capsys.readouterr().out
    path = calibration.path_of(tmp_path)
    stored = json.loads(path.read_text())
    assert stored["machine"]["cores"] >= 1
    assert stored["provenance"]["packages"]["torch"]
    (entry,) = stored["entries"].values()
    assert 0 < entry["seconds_per_image_and_call"] < entry["seconds_per_step"] < 1
    content = planned(tmp_path, capsys)
    rows = {row["arm"]: row for row in content["runs"]}
    measured = rows["M = 1, P = 2"]
    expected = 24 * entry["seconds_per_step"] + 72 * entry["seconds_per_image_and_call"]
    assert measured["estimate"] == "measured"
    assert measured["seconds"] == pytest.approx(expected + 3 * entry["evaluation_seconds"])
    assert rows["M = 1, P = 1"]["estimate"] == "by MACs"
    assert "scaled by MACs" in content["estimate"]
    only = planned(tmp_path, capsys, "--only", "M = 1, P = 2")
    assert only["estimate"] == "measured on this machine with no other worker running"


def test_a_schedule_starts_the_longest_first() -> None:
    assert makespan([(3, 1), (1, 1), (2, 1)], 1) == 6
    assert makespan([(3, 1), (1, 1), (2, 1)], 2) == 3
    assert makespan([(2, 1)] * 3, 2) == 4
    assert makespan([(2, 2)] * 3, 2) == 6
    assert makespan([(2, 9)], 2) == 2
    assert makespan([], 2) == 0


def test_arms_that_share_a_run_train_it_once_and_measure_it_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "shared.toml"
    levels = "".join(f'"{n}" = {{ evaluation.sampler_steps = {n} }}\n' for n in (10, 20))
    steps = "".join(f'"{n} steps" = {{ training.steps = {n} }}\n' for n in (1200, 4800))
    path.write_text(f'{HEADER}base = "digits"\nseeds = 1\n[axes.sampler]\n{levels}[axes.length]\n{steps}')
    assert launch.main(["--grid", str(path), "--runs", str(tmp_path / "runs"), "--dry-run", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    rows = {row["arm"]: row for row in content["runs"]}
    assert len({row["run"] for row in rows.values()}) == 1
    longest = rows["10, 4800 steps"]
    assert content["training_macs_left"] == longest["macs_total"]
    sampling = (10 + 20) * longest["evaluations"] * 1000 * longest["macs_per_call"]
    seconds = (content["training_macs_left"] + sampling) / CORE_RATE
    assert content["worker_seconds_left"] == pytest.approx(seconds, rel=0.2)  # the shorter's last step is one more


def test_resources_take_slots_in_the_schedule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "wide.toml"
    rates = "".join(
        f'"{n}" = {{ training.lr = {n / 1000}, resources = {{ cpus = {2 if n < 3 else 1} }} }}\n' for n in range(1, 5)
    )
    path.write_text(f'{HEADER}base = "digits"\nseeds = 1\n[axes.lr]\n{rates}')
    given = ["--grid", str(path), "--runs", str(tmp_path / "runs"), "--dry-run", "--json", "--jobs", "2"]
    assert launch.main(given) == 0
    content = json.loads(capsys.readouterr().out)
    one = content["runs"][0]["seconds"]
    if usable_cores() == 2:
        assert content["seconds_left"] == pytest.approx(3 * one)
    assert content["worker_seconds_left"] == pytest.approx(4 * one)


def test_unknown_macs_have_no_estimate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A calibration of a mixer that states no MACs says nothing of others."""
    assert launch.main(arguments(tmp_path, "--calibrate", "--only", "M = 1, P = 2")) == 0
    path = calibration.path_of(tmp_path)
    stored = json.loads(path.read_text())
    for entry in stored["entries"].values():
        entry |= {"macs_per_step": None, "macs_per_call": None}
    path.write_text(json.dumps(stored))
    rows = {row["arm"]: row["estimate"] for row in planned(tmp_path, capsys)["runs"]}
    assert rows == {"M = 2, P = 1": "assumed", "M = 1, P = 2": "measured", "M = 1, P = 1": "assumed"}


def test_equal_macs_in_the_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "equal.toml"
    path.write_text(
        f'{HEADER}base = "digits"\nseeds = 1\nbudget = "macs"\ncontrol = {{ ratio = "M2" }}\n'
        "[axes.ratio]\nM1 = { model.hourglass = 1 }\nM2 = { model.hourglass = 2 }\n"
    )
    assert launch.main(["--grid", str(path), "--runs", str(tmp_path / "runs"), "--dry-run", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["runs"]
    assert rows[1]["steps"] == 2400
    assert rows[0]["steps"] == round(2400 * rows[1]["macs_per_step"] / rows[0]["macs_per_step"])
    assert rows[0]["macs_total"] == pytest.approx(rows[1]["macs_total"], rel=1e-3)
    assert rows[0]["milestones"].split()[-1] == str(rows[0]["steps"])


def add() -> None:
    """Take about 0.65 s of a processor of 2023, as slowed by what else runs here."""
    total = 0
    for number in range(10**7):
        total += number


def test_a_plan_of_ten_thousand_runs_takes_seconds_and_half_a_gigabyte(tmp_path: Path) -> None:
    fields = {"model.width": range(16, 176, 16), "training.batch": range(1, 11)}
    fields |= {"training.ema": [0.9 + n / 1000 for n in range(20)], "training.lr": [n / 1000 for n in range(1, 6)]}
    axes = "".join(
        f"[axes.{key.partition('.')[2]}]\n" + "".join(f'"{key} {v}" = {{ {key} = {v} }}\n' for v in values)
        for key, values in fields.items()
    )
    path = tmp_path / "large.toml"
    path.write_text(f'{HEADER}base = "digits"\nseeds = 1\n{axes}')
    code = (
        "import runpy, sys; from pathlib import Path\n"
        "try: runpy.run_path('ablations/launch.py', run_name='__main__')\n"
        "except SystemExit as end: assert not end.code\n"
        "print(next(l for l in Path('/proc/self/status').read_text().splitlines() if l.startswith('VmHWM')))"
    )
    command = [sys.executable, "-c", code, "--grid", str(path), "--runs", str(tmp_path / "runs"), "--dry-run"]
    stdout: list[str] = []
    before = processor_seconds(add)
    plan = processor_seconds(
        lambda: stdout.extend(
            subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
        )
    )
    assert plan < 12 * (before + processor_seconds(add))  # half of that, with others at work beside it
    assert any("10000 runs: 10000 new" in line for line in stdout)
    peak = stdout[-1].split()  # VmHWM: 123456 kB
    assert int(peak[1]) < 500_000
