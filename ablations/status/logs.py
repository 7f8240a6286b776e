"""What the attempts at a run print: of its training, and of the evaluation of each milestone."""

import os
import time
from pathlib import Path

from ablations.slurm import submissions
from diffussm.store.rundir import RunDir

POLL_SECONDS = 0.5


def of(run: RunDir) -> list[Path]:
    """All logs of the run, the oldest first, with what SLURM noted of the jobs that trained it, if anything."""
    paths = [path for folder in (run, *run.evaluations()) for path in folder.outputs()]
    paths += [path for path in submissions.logs(run) if path.stat().st_size]
    return sorted(paths, key=lambda path: path.stat().st_mtime)


def show(run: RunDir, follow: bool) -> None:
    """Print the logs under headings of their own; with `follow`, for ever, as more is printed."""
    printed: dict[Path, int] = {}
    last: Path | None = None
    while True:
        for path in of(run):
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
