"""The status says where a disk takes no files, of every run that has not ended."""

import os
import shutil
from pathlib import Path

import pytest

from diffussm.store.rundir import RunDir
from diffussm.store.state import State
from tests.support import managing

FIXTURE = Path(__file__).parents[1] / "fixtures" / "run_of_26dc89b" / "runs"
ARM = "M = 1, P = 2"


class FullDisk:
    f_flag, f_bavail, f_files, f_favail = 0, 0, 1, 1


def test_the_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    runs = shutil.copytree(FIXTURE, tmp_path / "runs")
    run = RunDir(next(runs.glob("digits-*")))
    run.write_state(State(phase="train", attempt=1, heartbeat=1))
    os.utime(run.path / "state.json", (0, 0))
    before = managing.rows(capsys, runs)
    assert "No space" not in str(before)
    monkeypatch.setattr(os, "statvfs", lambda _: FullDisk)
    rows = managing.rows(capsys, runs)
    assert {arm: row["state"] for arm, row in rows.items()} == {arm: row["state"] for arm, row in before.items()}
    for arm, row in rows.items():
        where = run.path if arm == ARM else runs  # the others were never launched
        assert row["reason"].startswith(f"{where}: No space left on device")
        assert row["reason"].endswith(before[arm]["reason"])
