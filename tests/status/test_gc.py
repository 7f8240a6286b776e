"""`manage.py gc` deletes only what no run and no launch needs."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ablations import manage
from ablations.plan import snapshot
from diffussm.store.rundir import RunDir, step_of
from diffussm.store.writing import write_atomically
from tests.support import damage
from tests.support.managing import folder, printed, status

OTHER_CODE = "0123456789ab"


def other_code(runs: Path, name: str = OTHER_CODE) -> Path:
    """Make a copy of code that made nothing."""
    copy = runs / snapshot.FOLDER / name
    copy.mkdir(parents=True)
    (copy / "origin.json").write_text("{}")
    return copy


def made_by(runs: Path, code: str) -> None:
    """Let all results name this code."""
    for path in (*runs.glob("*/provenance-*.json"), *runs.glob("*/milestones/*/*/record.json")):
        content = json.loads(path.read_text())
        content.get("provenance", content)["code"] = code
        path.write_text(json.dumps(content))


def test_gc_deletes_only_with_yes(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = folder(runs, "m2p1")
    torn = run.path / "checkpoints" / ".000000024-1.pt.abcd.tmp"
    torn.write_bytes(b"x" * 1000)
    copy = other_code(runs)
    stranger = runs / "not-listed"
    shutil.copytree(run.path, stranger)
    text = printed(capsys, "gc", "--runs", str(runs))
    assert "half-written file" in text
    assert "checkpoint before the newest" in text
    assert "code that no launch uses and no result names" in text
    assert str(copy) not in printed(capsys, "gc", "--grid", "hourglass_vs_patch", "--runs", str(runs))
    assert "would be deleted; --yes deletes them" in text
    assert torn.exists()
    assert copy.exists()
    assert len(run.checkpoints()) == 2
    printed(capsys, "gc", "--yes", "--runs", str(runs))
    assert not torn.exists()
    assert not copy.exists()
    assert len(run.checkpoints()) == 1
    assert stranger.exists()
    assert "run of no launched grid" in printed(capsys, "gc", "--unlisted", "--yes", "--runs", str(runs))
    assert not stranger.exists()
    assert {row["state"] for row in status(capsys, runs)["runs"]} == {"done"}


def test_gc_keeps_files_of_active_runs(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in runs.glob("*/config.json"):
        RunDir(path.parent).claim()
    with snapshot.code_snapshot(runs, []) as copy:
        assert printed(capsys, "gc", "--yes", "--unlisted", "--runs", str(runs)).startswith("0.0 MB in 0 places")
        assert copy.exists()


def test_gc_deletes_the_code_of_a_killed_launch(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made_by(runs, OTHER_CODE)
    with snapshot.code_snapshot(runs, []) as copy:
        (mark,) = copy.parent.glob(f"{copy.name}.*.json")
        content = json.loads(mark.read_text())
        write_atomically(mark, json.dumps(content | {"started": "long ago"}).encode())
        assert str(copy) in printed(capsys, "gc", "--runs", str(runs))
        write_atomically(mark, json.dumps(content | {"place": "far"}).encode())
        assert str(copy) not in printed(capsys, "gc", "--runs", str(runs))


def test_gc_deletes_no_code_that_a_launch_uses(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made_by(runs, OTHER_CODE)
    with snapshot.code_snapshot(runs, []) as copy:
        half_made = other_code(runs, f".{copy.name}.abcdef01.tmp")
        orphan = other_code(runs, ".ba9876543210.abcdef01.tmp")
        printed(capsys, "gc", "--yes", "--runs", str(runs))
        assert copy.exists()
        assert half_made.exists()
        assert not orphan.exists()
    printed(capsys, "gc", "--yes", "--runs", str(runs))
    assert not copy.exists()
    assert not half_made.exists()


@pytest.mark.parametrize("kind", ["provenance-*.json", "milestones/*/*/record.json"])
def test_gc_keeps_the_code_that_one_result_names(kind: str, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a run that no grid names, too."""
    copy, run = other_code(runs), runs / "of_no_grid"
    shutil.copytree(folder(runs, "m2p1").path, run)
    result = next(run.glob(kind))
    content = json.loads(result.read_text())
    content.get("provenance", content)["code"] = copy.name
    result.write_text(json.dumps(content))
    printed(capsys, "gc", "--yes", "--runs", str(runs))
    assert copy.exists()
    shutil.rmtree(run)
    printed(capsys, "gc", "--yes", "--runs", str(runs))
    assert not copy.exists()


@pytest.mark.parametrize("kind", ["provenance-*.json", "milestones/*/*/record.json"])
def test_gc_keeps_all_code_where_a_result_is_damaged(kind: str, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy, path = other_code(runs), next(runs.glob(f"*/{kind}"))
    damage.corrupt(path, "torn")
    assert manage.main(["gc", "--yes", "--runs", str(runs)]) == 0
    assert f"{path}: is damaged: not valid JSON; the code that it names is not known" in capsys.readouterr().err
    assert copy.exists()


def test_gc_deletes_nothing_in_the_place_of_copies_or_runs(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = other_code(runs, "my_mixers")
    model = runs / "converted"
    model.mkdir()
    (model / "config.json").write_text("{}")
    printed(capsys, "gc", "--yes", "--unlisted", "--runs", str(runs))
    assert mine.exists()
    assert model.exists()


def test_gc_keeps_the_checkpoints_of_a_replay_that_is_not_finished(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = folder(runs, "m2p1")
    kept = run.replay.checkpoint(4, 1)
    kept.parent.mkdir()
    kept.write_bytes(b"x")
    weights, request = run.weights(8, "ema"), run.requests()[0]
    content = weights.read_bytes()
    weights.unlink()
    run.allow_replay(request)
    printed(capsys, "gc", "--yes", "--runs", str(runs))
    assert kept.exists()
    weights.write_bytes(content)
    printed(capsys, "gc", "--yes", "--runs", str(runs))
    assert not kept.exists()


def flip(path: Path) -> None:
    """Invert a bit in 256 bytes; an archive's padding, which has no checksum, is shorter."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 256] = bytes(byte ^ 1 for byte in content[middle : middle + 256])
    path.write_bytes(content)


def unstamp(path: Path) -> None:
    """As earlier versions wrote it."""
    content = torch.load(path, weights_only=True)
    torch.save(content, path)


@pytest.mark.parametrize("age", [unstamp, Path.exists], ids=["earlier", "present"])
@pytest.mark.parametrize("spoil", [flip, lambda path: path.write_bytes(b""), lambda path: path.write_bytes(b"x" * 99)])
def test_gc_keeps_the_checkpoint_that_a_damaged_newest_one_needs(
    age: Callable[[Path], object], spoil: Callable[[Path], object], runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = folder(runs, "m2p1")
    newest, older = run.checkpoints()
    age(newest)
    spoil(newest)
    assert manage.main(["gc", "--yes", "--runs", str(runs)]) == 0
    assert f"warning: {newest}: is damaged: " in capsys.readouterr().err
    assert run.checkpoints() == [newest, older]


def test_gc_deletes_what_an_intact_checkpoint_of_an_earlier_version_supersedes(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = folder(runs, "m2p1")
    newest, _ = run.checkpoints()
    unstamp(newest)
    printed(capsys, "gc", "--yes", "--runs", str(runs))
    assert run.checkpoints() == [newest]


def test_gc_keeps_a_checkpoint_from_which_lost_weights_can_be_restored(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = folder(runs, "m2p1")
    newest, older = run.checkpoints()
    run.weights(step_of(older), "ema").unlink()
    printed(capsys, "gc", "--yes", "--runs", str(runs))
    assert run.checkpoints() == [newest, older]
