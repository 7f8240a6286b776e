"""A damaged file costs a table the row of its run, with the file named as the reason, and nothing else."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ablations import launch, manage
from ablations.plan import calibration
from ablations.slurm import submissions
from ablations.slurm.commands import ClusterConfig
from ablations.slurm.submissions import Submission
from diffussm.errors import UserError
from diffussm.store.rundir import RunDir
from diffussm.store.state import State
from reports import make_figures
from tests.support import damage, managing

FIXTURE = Path(__file__).parents[1] / "fixtures" / "run_of_26dc89b" / "runs"
ARM = "M = 1, P = 2"
OTHERS = {"M = 2, P = 1", "M = 1, P = 1"}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return shutil.copytree(FIXTURE, tmp_path / "runs")


@pytest.fixture
def run(runs: Path) -> RunDir:
    return RunDir(next(runs.glob("digits-*")))


def planned(capsys: pytest.CaptureFixture[str], runs: Path, *more: str) -> dict[str, Any]:
    (manifest,) = (runs / "grids").glob("*.json")
    settings = [
        f"--set={key}={json.dumps(value)}" for key, value in json.loads(manifest.read_text())["settings"].items()
    ]
    capsys.readouterr()
    arguments = ["--grid", "hourglass_vs_patch", "--seeds", "1", "--runs", str(runs), "--dry-run", "--json"]
    assert launch.main([*arguments, *settings, *more]) == 0
    return {row["arm"]: row for row in json.loads(capsys.readouterr().out)["runs"]}


def reported(capsys: pytest.CaptureFixture[str], runs: Path) -> dict[str, str]:
    """Arm to what its row of the report says."""
    out = runs.parent / "out"
    assert make_figures.main(["--runs", str(runs), "--out", str(out)]) == 0
    lines = (out / "hourglass_vs_patch" / "digits" / "runs.csv").read_text().splitlines()[1:]
    return {arm: line for line in lines for arm in {ARM, *OTHERS} if f'"{arm}"' in line}


@pytest.mark.parametrize("how", damage.EVERY_WAY)
def test_an_order(how: str, runs: Path, run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    damage.corrupt(run.path / "orders" / "1.json", how)
    for rows in (
        managing.rows(capsys, runs),
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
    assert managing.rows(capsys, runs)[ARM]["state"] == "cancelled"


@pytest.mark.parametrize("how", damage.EVERY_WAY)
@pytest.mark.parametrize("part", ["state.json", "owner-1.json"])
def test_who_works_on_a_run(part: str, how: str, runs: Path, run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    damage.corrupt(run.path / part, how)
    if part == "owner-1.json":  # read of who may be alive
        run.write_state(State(phase="train", attempt=1, heartbeat=1))
    for rows in (
        managing.rows(capsys, runs),
        planned(capsys, runs),
        planned(capsys, runs, "--executor", "slurm", "--profile", "cpu"),
    ):
        assert f"{run.path}/{part}: is damaged: " in rows[ARM]["reason"]
        assert "delete it" in rows[ARM]["reason"]
        assert rows.keys() == {ARM, *OTHERS}
        assert "damaged" not in str({arm: rows[arm] for arm in OTHERS})
    rows = reported(capsys, runs)
    assert rows.keys() == {ARM, *OTHERS}
    if part == "state.json":
        assert f"{run.path}/{part}: is damaged" in rows[ARM]
    assert manage.main(["gc", "--runs", str(runs)]) == 0  # nothing of the run's is thrown away
    out, err = capsys.readouterr()
    assert run.run_id not in out
    assert f"warning: {run.path}/{part}: is damaged" in err


def test_a_damaged_failure_of_one_process(runs: Path, run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    run.write_state(State(phase="train", attempt=1, heartbeat=1))
    damage.corrupt(run.path / "failure-1.json", "torn")
    rows = managing.rows(capsys, runs)
    assert f"{run.path}/failure-1.json: is damaged: not valid JSON" in rows[ARM]["reason"]
    assert rows.keys() == {ARM, *OTHERS}


@pytest.mark.parametrize("how", damage.EVERY_WAY)
def test_a_submission(how: str, runs: Path, run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody knows whose jobs it names: tables list the runs, code is kept, and nothing is submitted."""
    Submission(job="7", kind="train", runs=(run.run_id,), code="0123456789ab").write(runs)
    path = runs / "slurm" / "12.json"
    damage.corrupt(path, how)
    (runs / "code" / "ba9876543210").mkdir(parents=True)
    message = f"{path}: is damaged: "
    for command in (["status"], ["gc"], ["logs", run.run_id], ["cancel", "--only", ARM]):
        assert manage.main([*command, "--runs", str(runs)]) == 0
        out, err = capsys.readouterr()
        assert f"warning: {message}" in err
        assert "ba9876543210" not in out
        manage._warn.cache_clear()
    rows = planned(capsys, runs, "--executor", "slurm", "--profile", "cpu")
    assert rows.keys() == {ARM, *OTHERS}
    words = ["--grid", "hourglass_vs_patch", "--runs", str(runs), "--executor", "slurm", "--profile", "cpu"]
    assert launch.main([*words, "--dry-run"]) == 0
    assert f"warning: {message}" in capsys.readouterr().out
    assert [job for job, _ in submissions.jobs_of(submissions.find(runs).submissions)[run.run_id]] == ["7"]


def test_nothing_is_submitted_beside_a_damaged_submission(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damage.corrupt(runs / "slurm" / "12.json", "torn")
    monkeypatch.setattr("ablations.slurm.commands.has_sbatch", lambda: True)
    monkeypatch.setattr(ClusterConfig, "current", lambda: ClusterConfig({"SLURM_VERSION": "23.02.0"}))
    words = ["--grid", "hourglass_vs_patch", "--runs", str(runs), "--executor", "slurm", "--profile", "cpu"]
    with pytest.raises(UserError, match=r"12.json: is damaged: .*may be submitted once more"):
        launch.main(words)


@pytest.mark.parametrize("how", damage.EVERY_WAY)
def test_a_calibration(how: str, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = calibration.path_of(runs)
    damage.corrupt(path, how)
    assert planned(capsys, runs).keys() == {ARM, *OTHERS}
    assert launch.main(["--grid", "hourglass_vs_patch", "--runs", str(runs), "--dry-run"]) == 0
    assert f"warning: {path}: is damaged: " in capsys.readouterr().out
    with pytest.raises(UserError, match="delete it, and measure again with --calibrate"):
        calibration.Calibration.load(runs)


@pytest.mark.parametrize("how", damage.EVERY_WAY)
def test_the_mark_of_a_launch(how: str, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The code of which nobody knows whether it is used is kept."""
    kept, unused = (runs / "code" / digest for digest in ("0123456789ab", "ba9876543210"))
    for copy in (kept, unused):
        copy.mkdir(parents=True)
    mark = kept.with_name(f"{kept.name}.1.abcdef01.json")
    damage.corrupt(mark, how)
    assert manage.main(["gc", "--runs", str(runs)]) == 0
    out, err = capsys.readouterr()
    assert str(unused) in out
    assert str(kept) not in out
    assert f"warning: {mark}: is damaged: " in err


@pytest.mark.parametrize("part", ["requests/9157bcaa090b.json", "config.json"])
def test_the_files_that_define_a_run(part: str, runs: Path, run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    damage.corrupt(run.path / part, "torn")
    rows = planned(capsys, runs)
    assert rows.keys() == {ARM, *OTHERS}
    if part != "config.json":  # a plan does not read it
        assert f"{part}: is damaged: not valid JSON" in rows[ARM]["reason"]
    assert reported(capsys, runs).keys() == managing.rows(capsys, runs).keys() == {ARM, *OTHERS}


def test_a_file_in_the_place_of_a_folder(runs: Path, run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(run.path)
    run.path.write_text("")
    for rows in (managing.rows(capsys, runs), planned(capsys, runs)):
        assert "Not a directory" in rows[ARM]["reason"]
        assert rows.keys() == {ARM, *OTHERS}
    assert "Not a directory" in reported(capsys, runs)[ARM]


@pytest.fixture
def both(runs: Path) -> Path:
    """Two grids on one base, and the manifest of the second."""
    content = json.loads((runs / "grids" / "hourglass_vs_patch-digits.1.json").read_text()) | {"grid": "other"}
    (runs / "grids" / "other-digits.1.json").write_text(json.dumps(content))
    return runs


@pytest.mark.parametrize("how", damage.EVERY_WAY)
def test_a_manifest(how: str, both: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = both / "grids" / "other-digits.1.json"
    damage.corrupt(manifest, how)
    message = f"{manifest}: is damaged: "

    assert manage.main(["status", "--runs", str(both), "--json"]) == 0
    out, err = capsys.readouterr()
    assert {row["grid"] for row in json.loads(out)["runs"]} == {"hourglass_vs_patch"}
    assert err.startswith(f"warning: {message}")
    assert "delete it and launch the grid again" in err
    assert manage.main(["status", "--runs", str(both), "--grid", "hourglass_vs_patch"]) == 0
    assert not capsys.readouterr().err  # another grid's
    with pytest.raises(UserError, match=message):
        manage.main(["status", "--runs", str(both), "--grid", "other"])

    with pytest.raises(UserError, match=message):
        make_figures.main(["--runs", str(both), "--out", str(both.parent / "out")])
    assert (both.parent / "out" / "hourglass_vs_patch" / "digits" / "runs.csv").exists()
    assert (both.parent / "out" / "paper").exists()
    assert (
        make_figures.main(["--runs", str(both), "--out", str(both.parent / "out"), "--grid", "hourglass_vs_patch"]) == 0
    )


def test_runs_of_a_damaged_manifest_are_no_garbage(both: Path, run: RunDir) -> None:
    for manifest in (both / "grids").glob("*.json"):
        damage.corrupt(manifest, "torn")
        with pytest.raises(UserError, match="not valid JSON"):
            manage.main(["gc", "--unlisted", "--yes", "--runs", str(both)])
    assert run.path.exists()


def test_one_grid_that_cannot_be_reported(both: Path) -> None:
    """The arms of the other have different numbers of milestones, where they are compared at those of one."""
    manifest = both / "grids" / "other-digits.1.json"
    content = json.loads(manifest.read_text()) | {"budget": "macs", "control": ARM}
    content["runs"][0]["milestones"] = [24]
    manifest.write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"{manifest}: M = 2, P = 1 has 1 milestones, but the control {ARM} has 2"):
        make_figures.main(["--runs", str(both), "--out", str(both.parent / "out")])
    assert (both.parent / "out" / "hourglass_vs_patch" / "digits" / "runs.csv").exists()


def test_doctor_names_what_is_damaged(both: Path, run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    damage.corrupt(run.path / "config.json", "torn")
    assert manage.main(["doctor", "--grid", "other", "--runs", str(both)]) == 1
    assert f"fail    runs: {run.path}/config.json: is damaged: not valid JSON" in capsys.readouterr().out
