"""`manage.py gc` deletes only what no run and no launch needs."""

import json
import shutil
from pathlib import Path

import pytest

from ablations.plan import snapshot
from diffussm.store.rundir import RunDir
from diffussm.store.writing import write_atomically
from tests.support.managing import folder, printed, status


def test_gc_deletes_only_with_yes(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = folder(runs, "m2p1")
    torn = run.path / "checkpoints" / ".000000024-1.pt.abcd.tmp"
    torn.write_bytes(b"x" * 1000)
    with snapshot.code_snapshot(runs, []) as copy:
        assert str(copy) not in printed(capsys, "gc", "--runs", str(runs))  # while a launch uses it
    stranger = runs / "not-listed"
    shutil.copytree(run.path, stranger)
    text = printed(capsys, "gc", "--runs", str(runs))
    assert "half-written file" in text
    assert "checkpoint before the newest" in text
    assert "code that no launch uses" in text
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
    with snapshot.code_snapshot(runs, []) as copy:
        (mark,) = copy.parent.glob(f"{copy.name}.*.json")
        content = json.loads(mark.read_text())
        write_atomically(mark, json.dumps(content | {"started": "long ago"}).encode())
        assert str(copy) in printed(capsys, "gc", "--runs", str(runs))
        write_atomically(mark, json.dumps(content | {"place": "far"}).encode())
        assert str(copy) not in printed(capsys, "gc", "--runs", str(runs))
