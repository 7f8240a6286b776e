"""A record is believed only in its place and as it was written."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tests.support.tiny as tiny
from diffussm.metrics.key import evaluation_key
from diffussm.store import records
from diffussm.store.records import KeyDigests, Record
from diffussm.store.rundir import RunDir
from tests.support import damage, former_files


def of(run: RunDir, step: int = 8, **evaluation: Any) -> Record:
    key = evaluation_key(tiny.config(**evaluation))
    return Record(
        run_id=run.run_id,
        step=step,
        key=key,
        metrics={"fid": 32.2, "label_accuracy": 0.5},
        timing={},
        provenance={"packages": {"torch": "2"}},
        weights_sha256="0" * 64,
        weights_verifiable=True,
    )


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return tiny.run_folder(tmp_path / "runs")


@pytest.fixture
def path(run: RunDir) -> Path:
    """The path of a written record of step 8."""
    path = run.record(8, of(run).key.digest)
    records.write(of(run), path)
    return path


def change(path: Path, **fields: Any) -> None:
    """Set fields (None: remove) of a stored record, and of its metrics by their names."""
    content = json.loads(path.read_text())
    for name, value in fields.items():
        part = content["metrics"] if name in ("fid", "label_accuracy") else content
        part.pop(name) if value is None else part.update({name: value})
    path.write_text(json.dumps(content, indent=1))


def test_what_is_written_is_read(run: RunDir, path: Path) -> None:
    assert records.read(path) == of(run)
    assert records.refusal(path) == ""
    stored = json.loads(path.read_text())
    assert stored["format_version"] == 2
    assert "is_verifiable" not in stored
    assert records.refusal(run.record(16, of(run).key.digest)) == ""  # there is none


def test_one_bit_anywhere(path: Path) -> None:
    whole = path.read_bytes()
    passed = []
    for byte in range(0, len(whole), 3):
        damage.flip(path, 8 * byte + byte // 3 % 8)
        passed += [byte] if records.read(path) else []
        path.write_bytes(whole)
    assert passed == []


@pytest.mark.parametrize("fields", [{"fid": 0.322}, {"step": 16}, {"weights_sha256": "1" * 64}, {"provenance": {}}])
def test_a_changed_number(fields: dict[str, Any], path: Path) -> None:
    change(path, **fields)
    assert records.read(path) is None
    assert records.refusal(path).startswith(f"{path}: is damaged: ")


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"sha256": None}, "does not have the SHA-256 that it states, or it states none"),
        ({"sha256": ""}, "or it states none"),
        ({"format_version": None}, "has format version 1; expected 2"),
        ({"format_version": 3}, "has format version 3; expected 2"),
    ],
)
def test_the_present_version_without_a_digest(fields: dict[str, Any], what: str, path: Path) -> None:
    change(path, **fields)
    assert what in records.refusal(path)


def test_a_record_of_before_is_taken_and_not_verifiable(run: RunDir, path: Path) -> None:
    former_files.record(path)
    found = records.read(path)
    assert found is not None
    assert (found.is_verifiable, found.weights_sha256, found.weights_verifiable) == (False, "", None)
    assert found.metrics == of(run).metrics


@pytest.mark.parametrize("former", [False, True])
def test_a_record_in_another_place(former: bool, run: RunDir, path: Path, tmp_path: Path) -> None:
    if former:
        former_files.record(path)
    other = tiny.run_folder(tmp_path / "runs", seed=1)
    key = of(run).key.digest
    another_key = of(run, evaluation__guidance=2.0).key.digest
    for place, what in (
        (other.record(8, key), f"is of run {run.run_id}"),
        (run.record(16, key), "is of step 8"),
        (run.record(8, another_key), f"is of evaluation key {key}"),
    ):
        place.parent.mkdir(parents=True)
        place.write_bytes(path.read_bytes())
        assert records.read(place) is None
        assert records.refusal(place) == f"{place}: is damaged: {what}"
        assert records.find(place.parents[1], KeyDigests(place.parent.name)) is None


@pytest.mark.parametrize("metric", ["fid", "label_accuracy"])
def test_a_missing_metric(metric: str, path: Path) -> None:
    former_files.record(path)
    change(path, **{metric: None})
    assert records.refusal(path).endswith(f"has no {metric}, which its key lists")


def test_a_key_of_an_older_version(run: RunDir) -> None:
    """Records of DDPM that an older version measured are found under the digest of then."""
    record = of(run, evaluation__sampler="ddpm")
    (former,) = record.key.digests - {record.key.digest}
    path = run.record(8, former)
    records.write(record, path)
    assert records.read(path) == record


HURT: list[Callable[[Path], None]] = [
    lambda path: damage.cut(path, 30),
    lambda path: damage.zero(path, 100, 40),
    lambda path: change(path, fid=0.322),
    *[lambda path, how=how: damage.corrupt(path, how) for how in damage.EVERY_WAY],
]


@pytest.mark.parametrize("hurt", HURT)
def test_a_refused_record_is_set_aside_and_replaced(
    hurt: Callable[[Path], None], run: RunDir, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hurt(path)
    assert records.read(path) is None
    records.write(of(run), path)
    assert records.read(path) == of(run)
    aside = path.with_name("record.json.damaged")
    assert aside.exists() or aside.is_symlink()
    assert f"{path}: is damaged: " in (stderr := capsys.readouterr().err)
    assert "set aside as record.json.damaged, and measured again" in stderr
