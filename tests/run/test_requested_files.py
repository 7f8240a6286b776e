"""The files of a request: found from any folder, told apart by their hashes, and the same under any name."""

import hashlib
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from ablations.plan.request import GridRequest
from ablations.status.overview import overview
from diffussm.commands.evaluate import evaluate_run
from diffussm.config import Config, Request
from diffussm.data.load import reference_images
from diffussm.distributed.group import SINGLE_PROCESS
from diffussm.errors import UserError
from diffussm.metrics.features.registry import extractor_facts
from diffussm.metrics.requested_files import as_requested
from diffussm.models.trained import requested_config
from diffussm.run.claim import assume_owner_dead
from diffussm.run.heartbeat import Liveness
from diffussm.run.request import request_run
from diffussm.run.runner import TaskRunner
from diffussm.run.tasks import is_done, pending_tasks
from diffussm.store import manifests, records
from diffussm.store.rundir import RunDir
from reports.grid.results import load
from tests.support import tiny
from tests.support.grid_file import HEADER

QUICK = {"training.steps": 8, "training.milestones": [8], "evaluation.metrics": ["fid"]}


def write_reference(path: Path, first: int) -> str:
    """Write 40 digits to the file; return its hash."""
    path.parent.mkdir(exist_ok=True, parents=True)
    pixels = reference_images("digits").pixels[first : first + 40]
    np.savez(path, arr_0=pixels.transpose(0, 2, 3, 1))
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    """A run asked for in the folder `here`, by a relative path; another file has that path in the folder `there`."""
    write_reference(tmp_path / "here" / "mine.npz", 0)
    write_reference(tmp_path / "there" / "mine.npz", 100)
    monkeypatch.chdir(tmp_path / "here")
    return request_run(tmp_path / "runs", config("mine.npz"))


def config(reference: str) -> Config:
    changes = {**QUICK, "evaluation.reference": reference}
    return tiny.config(**{key.replace(".", "__"): value for key, value in changes.items()})


def execute(run: RunDir) -> None:
    TaskRunner(run.path).run_pending(assume_owner_dead)


def found(run: RunDir) -> list[records.Record]:
    return [record for path in run.path.rglob("record.json") if (record := records.read(path))]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_paths_are_absolute_and_the_reference_has_a_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    stated = write_reference(tmp_path / "mine.npz", 0)
    asked = as_requested(tiny.config(evaluation__reference="mine.npz", evaluation__extractor_weights="~/w")).evaluation
    assert (asked.reference, asked.reference_file_sha256) == (str(tmp_path / "mine.npz"), stated)
    assert asked.extractor_weights == "/home/me/w"
    assert as_requested(tiny.config()) == tiny.config()
    missing = as_requested(tiny.config(evaluation__reference="none.npz")).evaluation
    assert (missing.reference, missing.reference_file_sha256) == (str(tmp_path / "none.npz"), "")
    with pytest.raises(UserError, match="reference_file_sha256: digits is a data set, not a file; leave it out"):
        request_run(tmp_path / "runs", tiny.config(evaluation__reference_file_sha256=stated))
    assert not (tmp_path / "runs").exists()


def test_equal_files_are_one_for_what_results_depend_on(tmp_path: Path) -> None:
    write_reference(tmp_path / "a.npz", 0)
    shutil.copy(tmp_path / "a.npz", tmp_path / "b.npz")
    a, b = (Request.from_config(as_requested(config(str(tmp_path / name)))) for name in ("a.npz", "b.npz"))
    assert a.digest != b.digest
    assert a.results_digest == b.results_digest


def test_measured_against_the_file_that_was_asked_for(
    run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path / "there")
    execute(run)
    (record,) = found(run)
    assert record.key.reference == "mine"
    assert record.key.reference_sha256 == sha256(tmp_path / "here" / "mine.npz")
    assert evaluate_run(run, None, {}, SINGLE_PROCESS) == record
    other = evaluate_run(run, None, {"reference": "mine.npz"}, SINGLE_PROCESS)  # another is asked for, here and now
    assert other is not None
    assert other.key.reference_sha256 == sha256(tmp_path / "there" / "mine.npz")
    assert other.metrics["fid"] != record.metrics["fid"]


@pytest.mark.parametrize("evaluate", [execute, lambda run: evaluate_run(run, None, {}, SINGLE_PROCESS)])
def test_a_file_that_has_changed_is_refused_with_both_hashes(
    evaluate: Callable[[RunDir], object], run: RunDir, tmp_path: Path
) -> None:
    path = tmp_path / "here" / "mine.npz"
    kept = shutil.copy(path, tmp_path / "kept.npz")
    execute(run)
    for folder in run.milestone(8).glob("*/"):
        shutil.rmtree(folder)
    before, after = sha256(path), write_reference(path, 100)
    with pytest.raises(UserError, match=rf"reference = {path}: has sha256 {after}, but .* requested had {before}; put"):
        evaluate(run)
    assert not found(run)
    shutil.copy(kept, path)
    evaluate(run)
    (record,) = found(run)
    path.unlink()  # what is measured is found by its hash
    assert is_done(run)
    assert evaluate_run(run, None, {}, SINGLE_PROCESS) == record


def test_what_can_be_measured_is_although_the_file_of_an_earlier_request_has_changed(
    run: RunDir, tmp_path: Path
) -> None:
    now = write_reference(tmp_path / "here" / "mine.npz", 100)
    request_run(tmp_path / "runs", config("mine.npz"))  # anew
    with pytest.raises(UserError, match="has sha256"):  # in the end, of the earlier request
        execute(run)
    assert [record.key.reference_sha256 for record in found(run)] == [now]
    assert evaluate_run(run, None, {}, SINGLE_PROCESS) == found(run)[0]


def test_a_file_that_has_moved_is_done_or_can_be_measured_at_its_new_place(run: RunDir, tmp_path: Path) -> None:
    moved = (tmp_path / "here" / "mine.npz").rename(tmp_path / "moved.npz")
    request_run(tmp_path / "runs", config(str(moved)))
    execute(run)  # both requests, by the file that is there
    (record,) = found(run)
    assert record.key.reference == "moved"
    assert is_done(run)
    again = shutil.copy(moved, tmp_path / "here" / "again.npz")
    request_run(tmp_path / "runs", config(str(again)))
    assert pending_tasks(run) == []
    assert evaluate_run(run, None, {}, SINGLE_PROCESS) == record  # under the key of before


def test_launch_status_and_report_know_the_file_under_another_name(tmp_path: Path) -> None:
    (tmp_path / "one.toml").write_text(f'{HEADER}base = "digits"\nseeds = 1\n[arms.A]\n')
    write_reference(tmp_path / "a.npz", 0)
    shutil.copy(tmp_path / "a.npz", tmp_path / "b.npz")
    runs = tmp_path / "runs"

    def ask(reference: str) -> list[str]:
        settings = {**tiny.SETTINGS, **QUICK, "evaluation.reference": str(tmp_path / reference)}
        request = GridRequest.from_arguments(str(tmp_path / "one.toml"), None, None, settings, runs)
        planned = request.plan()
        request.write(planned, planned, replay=False)
        return [p.status for p in planned]

    assert ask("a.npz") == ["new"]
    (run,) = (RunDir(path.parent) for path in runs.glob("*/config.json"))
    execute(run)
    (record,) = found(run)
    assert ask("b.npz") == ["done"]
    assert pending_tasks(run) == []
    found_manifests = manifests.find(runs, None, None).manifests
    (row,) = overview(runs, found_manifests.values(), [], Liveness())
    assert (row.state.name, row.state.fid) == ("done", record.metrics["fid"])
    ((path, manifest),) = found_manifests.items()
    assert manifest.runs[0].key != record.key.digest
    results = load(path, runs)
    assert list(results.table.state) == ["done"]
    assert list(results.table.key) == [record.key.digest]  # beside which the samples are


def test_an_extractor_from_outside_with_other_weights_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("their_extractor")
    module.MINE = replace(extractor_facts("digits-cnn"), name="their_extractor:MINE")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "their_extractor", module)
    run = request_run(tmp_path, tiny.config(evaluation__extractor="their_extractor:MINE"))
    before = extractor_facts("digits-cnn").weights.sha256
    assert run.latest_request().evaluation.extractor_weights_sha256 == before
    weights = replace(module.MINE.weights, sha256="f" * 64)
    module.MINE = replace(module.MINE, weights=weights)  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=rf"MINE: needs weights with sha256 f{{64}}, but .* needed {before}"):
        execute(run)
    assert requested_config(run, {"extractor": "digits-cnn"}).evaluation.extractor_weights_sha256 == ""
