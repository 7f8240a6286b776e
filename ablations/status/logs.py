"""The logs of a run: what the attempts at its training and at the evaluation of each milestone printed."""

import os
import time
from collections.abc import Callable
from pathlib import Path

from diffussm.errors import UserError
from diffussm.host.clock import utc
from diffussm.store.rundir import RunDir
from diffussm.store.workdir import WorkDir

JobLogs = Callable[[RunDir], list[tuple[str, Path]]]  # logs that a scheduler wrote, with the times of their jobs
POLL_SECONDS = 0.5


def run_logs(run: RunDir, job_logs: JobLogs) -> list[Path]:
    """Return all logs of the run, in the order in which attempts began and jobs were submitted. `job_logs` gives those
    that a scheduler wrote for the jobs that trained it; empty ones are omitted.

    Where no time is stated, as versions of before stated none, that of the log's file counts.
    """
    found = [(_begun(folder, path), path) for folder in (run, *run.evaluations()) for path in folder.log_paths()]
    found += [(submitted, path) for submitted, path in job_logs(run) if path.stat().st_size]
    return [path for _, path in sorted(found, key=lambda log: log[0] or utc(log[1].stat().st_mtime))]


def _begun(folder: WorkDir, log: Path) -> str:
    """Return when the attempt that printed a log began; "" if that is not stated."""
    try:
        return folder.owner_process(int(log.stem.split("-")[1])).claimed
    except (FileNotFoundError, UserError):
        return ""


def show(run: RunDir, job_logs: JobLogs, follow: bool) -> None:
    """Print the logs, each under a heading; with `follow`, keep printing what is added to them, without end."""
    printed: dict[Path, int] = {}
    last: Path | None = None
    while True:
        for path in run_logs(run, job_logs):
            text = path.read_text(errors="replace")
            new = text[printed.get(path, 0) :]
            if new or path not in printed:
                if path != last:
                    print(f"==> {os.path.relpath(path, run.path)} <==")
                print(new, end="" if new.endswith("\n") or not new else "\n", flush=True)
                last = path
            printed[path] = len(text)
        if not follow:
            return
        time.sleep(POLL_SECONDS)
