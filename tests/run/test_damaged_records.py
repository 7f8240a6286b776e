"""A refused record is named in tables, costs them its row only, and is measured again."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

import tests.support.tiny as tiny
from ablations import launch
from diffussm.models.stored import read_weights
from diffussm.run.claim import assume_owner_dead
from diffussm.run.runner import TaskRunner
from diffussm.run.tasks import is_done, pending_tasks
from diffussm.store import records
from diffussm.store.hashes import file_sha256
from diffussm.store.records import Record
from diffussm.store.rundir import RunDir
from reports import make_figures
from reports.grid import text
from reports.grid.results import load
from tests.support import damage, former_files, managing, synthetic_records
from tests.support.tiny_grid import arguments

ARM = "M = 1, P = 2"


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    run = tiny.run_folder(tmp_path_factory.mktemp("done"))
    TaskRunner(run.path).run_pending(assume_owner_dead)
    return run


@pytest.fixture
def run(done: RunDir, tmp_path: Path) -> RunDir:
    return RunDir(shutil.copytree(done.path, tmp_path / done.run_id))


def record_at(run: RunDir, step: int) -> tuple[Path, Record]:
    (path,) = run.milestone(step).glob("*/record.json")
    record = records.read(path)
    assert record is not None
    return path, record


def test_a_record_names_the_weights(run: RunDir) -> None:
    _, record = record_at(run, 16)
    assert record.weights_sha256 == file_sha256(run.weights(16, "ema"))
    assert record.weights_sha256 == read_weights(run.weights(16, "ema")).origin.sha256
    assert record.weights_verifiable is True


def test_weights_of_before_are_marked_in_the_record(run: RunDir) -> None:
    path, _ = record_at(run, 16)
    shutil.rmtree(path.parent)
    former_files.weights(run.weights(16, "ema"))
    TaskRunner(run.path).run_pending(assume_owner_dead)
    _, record = record_at(run, 16)
    assert record.weights_verifiable is False
    assert record.weights_sha256 == file_sha256(run.weights(16, "ema"))


def test_a_refused_record_is_measured_again(run: RunDir) -> None:
    path, record = record_at(run, 16)
    other, _ = record_at(run, 8)
    path.write_bytes(other.read_bytes())
    assert not is_done(run)
    assert [(task.kind, task.step) for task in pending_tasks(run)] == [("evaluate", 16)]
    TaskRunner(run.path).run_pending(assume_owner_dead)
    _, again = record_at(run, 16)
    assert again.metrics == record.metrics
    assert path.with_name("record.json.damaged").read_bytes() == other.read_bytes()
    assert is_done(run)


def rows_of_report(runs: Path) -> pd.DataFrame:
    out = runs.parent / "out"
    assert make_figures.main(["--runs", str(runs), "--out", str(out)]) == 0
    return pd.read_csv(out / "hourglass_vs_patch" / "digits" / "runs.csv").set_index("arm")


def test_status_and_report_name_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = tmp_path / "runs"
    assert launch.main(arguments(runs, "--executor", "debug", "--only", "M = 1*")) == 0
    run = managing.folder(runs, "m1p2")
    path, _ = record_at(run, 24)
    damage.flip(path, 8 * 500)
    row = managing.rows(capsys, runs)[ARM]
    assert (row["state"], row["evaluated"], row["evaluations"]) == ("pending", 2, 3)
    assert row["reason"].startswith(f"{path}: is damaged: ")
    assert row["reason"].endswith("; the next launch measures it again")
    table = rows_of_report(runs)
    assert (table.state[ARM], table.last_measured_step[ARM]) == ("missing", 16)
    assert str(path) in table.reason[ARM]
    assert table.state["M = 1, P = 1"] == "done"
    assert launch.main(arguments(runs, "--executor", "debug", "--only", "M = 1*")) == 0
    assert managing.rows(capsys, runs)[ARM]["state"] == "done"


def test_reports_say_that_records_of_before_cannot_be_verified(tmp_path: Path) -> None:
    manifest = synthetic_records.write(tmp_path, synthetic_records.basic_metrics)
    assert text.unverifiable(load(manifest, tmp_path)) == ""
    for path in sorted(tmp_path.glob("*/milestones/*/*/record.json"))[:2]:
        former_files.record(path)
    sentence = "2 of 21 records cannot be verified: an earlier version wrote them, without a digest.\n\n"
    assert text.unverifiable(load(manifest, tmp_path)) == sentence
