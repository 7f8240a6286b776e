"""Run folders and records: whole files, first writers, states that are told apart."""

import os
from pathlib import Path

import pytest

import tests.support.tiny as tiny
from diffussm.config import Request, resolve
from diffussm.errors import UserError
from diffussm.metrics.key import evaluation_key
from diffussm.store import records
from diffussm.store.rundir import RunDir
from diffussm.store.writing import write_atomically, write_once
from tests.support.processes import FORKS


def record(fid: float = 1.0, **evaluation: object) -> records.Record:
    config = resolve("digits", {f"evaluation.{name}": value for name, value in evaluation.items()})
    return records.Record(
        run_id="a-run", step=5, key=evaluation_key(config), metrics={"fid": fid}, timing={}, provenance={"commit": None}
    )


def test_a_record_is_immutable(tmp_path: Path) -> None:
    path = tmp_path / "5" / "record.json"
    records.write(record(1.0), path)
    records.write(record(2.0), path)
    assert records.read(path) == record(1.0)


def test_an_invalid_record_counts_as_none_and_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    assert records.read(path) is None
    path.write_text('{"run_id": "torn')
    assert records.read(path) is None
    records.write(record(), path)
    assert records.read(path) == record()


def test_metrics_must_be_finite() -> None:
    with pytest.raises(ValueError, match="not finite: fid"):
        record(float("nan"))


@pytest.mark.parametrize(
    "change",
    [
        {"samples": 500},
        {"sampler_steps": 25},
        {"guidance": 1.5},
        {"weights": "raw"},
        {"clip": False},
        {"metrics": ["fid"]},
    ],
)
def test_what_changes_a_number_changes_its_key(change: dict[str, object]) -> None:
    assert record(**change).key.digest != record().key.digest


def test_batch_changes_no_key() -> None:
    assert record(batch=10).key.digest == record().key.digest
    assert (
        Request.from_config(resolve("digits", {"evaluation.batch": 10})).digest
        != Request.from_config(resolve("digits")).digest
    )


def test_fid_is_named_in_full() -> None:
    assert record().key.metric_label("fid") == "FID (digits CNN, n = 1000)"
    assert record().key.metric_label("clean_fid") == "clean-fid (its own Inception, n = 1000)"


def write_many(folder: Path, content: bytes) -> None:
    for i in range(50):
        write_once(folder / f"{i}", content)
        write_atomically(folder / "last", content)


def test_one_of_two_racing_writers_wins_whole_files(tmp_path: Path) -> None:
    contents = [b"a" * 50_000, b"b" * 50_000]
    writers = [FORKS.Process(target=write_many, args=(tmp_path, content)) for content in contents]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert sorted(os.listdir(tmp_path)) == sorted(["last", *map(str, range(50))])
    assert all(path.read_bytes() in contents for path in tmp_path.iterdir())


def test_config_survives_the_folder(tmp_path: Path) -> None:
    config = tiny.config(seed=3)
    run = RunDir.create(tmp_path, config)
    stored = run.config()
    assert stored.model == config.model
    assert stored.training.threads == config.training.threads
    assert run.run_id == run.path.name
    run.add_requests([Request.from_config(config)])
    run.add_requests([Request.from_config(config)])
    assert run.requests() == [Request.from_config(config)]


def test_a_run_of_other_timesteps_can_be_read_again(tmp_path: Path) -> None:
    """The file holds no evaluation, and the default one need not fit."""
    config = tiny.config(diffusion__timesteps=512, evaluation__sampler_steps=16)
    assert RunDir.create(tmp_path, config).config().diffusion.timesteps == 512


def test_a_folder_that_is_another_runs_is_refused(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path, tiny.config())
    moved = run.path.rename(tmp_path / "elsewhere")
    with pytest.raises(
        UserError, match=rf"belongs to run {run.run_id}, but its folder is elsewhere; rename it to {run.run_id}"
    ):
        RunDir(moved).config()
    (tmp_path / "empty").mkdir()
    for name, problem in (("empty", "not a run folder"), ("nothing", "no such run folder")):
        with pytest.raises(UserError, match=problem):
            RunDir(tmp_path / name).config()
        with pytest.raises(UserError, match=problem):
            RunDir(tmp_path / name).latest_request()


def test_attempts_count_up_and_the_last_owns(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path, tiny.config())
    assert run.owner() == 0
    assert [run.claim(), run.claim()] == [1, 2]
    assert run.owner() == 2


def test_loss_rows_merge_by_step_and_torn_lines_are_skipped(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path, tiny.config())
    run.loss_log(1).write_text('{"step": 10, "total": 1}\n{"step": 20, "total": 2}\n{"step": 30, "to')
    run.loss_log(10).write_text('{"step": 20, "total": 9}\n')
    run.loss_log(2).write_text('{"step": 20, "total": 5}\n{"step": 30, "total": 6}\n')
    assert [(row["step"], row["total"]) for row in run.loss_rows()] == [(10, 1), (20, 9), (30, 6)]


def test_damaged_loss_rows_are_skipped(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path, tiny.config())
    run.loss_log(1).write_bytes(b'\0\0\n{"step": 10}\n\xff\n[]\n{"total": 1}\n')
    values = ("NaN", "1e999", "-Infinity", "null", "true", '"1"', "[]", "9" * 5000)
    run.loss_log(3).write_text("".join(f'{{"step": 30, "total": {value}}}\n' for value in values) + '{"step": true}\n')
    (run.path / "train-x.jsonl").write_text('{"step": 20}\n')
    run.loss_log(2).mkdir()
    assert run.loss_rows() == [{"step": 10}]


def test_other_folders_beside_milestones_are_ignored(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path, tiny.config())
    for name in ("20", "20.bak"):
        run.weights(20, "ema").parent.with_name(name).mkdir(parents=True)
        (run.path / "milestones" / name / "ema.safetensors").touch()
    assert run.kept_milestones("ema") == [20]


def test_lost_milestones(tmp_path: Path) -> None:
    run = tiny.run_folder(tmp_path)
    request = run.requests()[0]
    assert run.lost_milestones(request) == []
    write_atomically(run.checkpoint(16, 1), b"")
    write_atomically(run.weights(8, "ema"), b"")
    assert run.lost_milestones(request) == [16]
