"""The logs of a run: what the attempts at its training and at the evaluation of each milestone printed."""

import os
import time
from collections.abc import Callable
from pathlib import Path

from diffussm.store.rundir import RunDir

POLL_SECONDS = 0.5


def run_logs(run: RunDir, job_logs: Callable[[RunDir], list[Path]]) -> list[Path]:
    """Return all logs of the run, the oldest first. `job_logs` gives those that a scheduler wrote for the jobs that
    trained it; empty ones are omitted."""
    paths = [path for folder in (run, *run.evaluations()) for path in folder.log_paths()]
    paths += [path for path in job_logs(run) if path.stat().st_size]
    return sorted(paths, key=lambda path: path.stat().st_mtime)


def show(run: RunDir, job_logs: Callable[[RunDir], list[Path]], follow: bool) -> None:
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
