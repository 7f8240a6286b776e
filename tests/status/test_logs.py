"""The order of a run's logs is that in which its attempts began, not that of the files' times."""

import os
import shutil
from pathlib import Path

import pytest

from ablations.status.logs import run_logs
from diffussm.host import clock
from diffussm.store import workdir
from diffussm.store.rundir import RunDir
from tests.support import tiny


def test_attempts_and_jobs_in_the_order_of_their_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tiny.run_folder(tmp_path / "runs")
    evaluation = run.evaluation(8, "0" * 12)
    for second, folder in enumerate((run, evaluation, run)):
        monkeypatch.setattr(workdir, "utc", lambda second=second: clock.utc(second))
        folder.log_path(folder.claim() or 0).write_text(f"{second}")
    (job_log := tmp_path / "7_0_log.out").write_text("job")
    (empty := tmp_path / "8_0_log.out").touch()
    for path in (*run.path.rglob("log-*"), job_log):
        os.utime(path, (9, 9))

    def printed(run: RunDir) -> list[str]:
        return [path.read_text() for path in run_logs(run, lambda _: [(clock.utc(1.5), job_log), ("", empty)])]

    assert printed(run) == ["0", "1", "job", "2"]
    copied = shutil.copytree(run.path, tmp_path / "copy" / run.run_id, copy_function=shutil.copy)
    assert printed(RunDir(copied)) == ["0", "1", "job", "2"]
    for owner in run.path.rglob("owner-*"):
        owner.write_text('{"place": "far", "pid": 1, "started": "1"}')  # as versions of before stored it
    for second, name in enumerate(("log-2.txt", "log-1.txt")):
        os.utime(run.path / name, (second, second))
    assert printed(run) == ["2", "0", "job", "1"]
