"""A pool of worker processes on this machine: each works on one run folder at a time (`python -m ablations.cell`)."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ablations.executors.outcome import Outcome
from diffussm.rundir import RunDir

ROOT = Path(__file__).parents[2]
POLL_SECONDS = 0.2
STOP_SECONDS = 30.0


def execute(
    folders: list[Path],
    workers: int,
    threads: int,
    finished: Callable[[Path, Outcome], None],
    poll: Callable[[list[Path]], None],
) -> None:
    """Work on `folders` in order, `workers` at a time; `poll` is told several times a second which are being worked on.

    On KeyboardInterrupt the workers are asked to stop, which they do after a checkpoint, and it is raised on.
    """
    waiting, active = list(folders), dict[Path, subprocess.Popen[bytes]]()
    try:
        while waiting or active:
            while waiting and len(active) < workers:
                folder = waiting.pop(0)
                active[folder] = _start(folder, threads)
            poll(list(active))
            time.sleep(POLL_SECONDS)
            for folder, process in list(active.items()):
                if process.poll() is not None:
                    del active[folder]
                    finished(folder, _outcome(folder, process.returncode))
    finally:
        _stop(list(active.values()))


def _start(folder: Path, threads: int) -> "subprocess.Popen[bytes]":
    path = os.pathsep.join(filter(None, [str(Path.cwd()), os.environ.get("PYTHONPATH")]))  # of mixers from outside
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "ablations.cell", str(folder.resolve())],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C reaches the launcher alone, which stops its workers in order
        )


def _outcome(folder: Path, code: int) -> Outcome:
    match code:
        case 0:
            return Outcome("done")
        case 3:
            return Outcome("stopped", RunDir(folder).state().get("reason", ""))
        case _ if code < 0:
            return Outcome("failed", f"killed by {signal.Signals(-code).name}")
    reason = RunDir(folder).state().get("reason") or f"exit code {code}"
    return Outcome("failed", f"{reason} (log: {folder / 'log.txt'})")


def _stop(processes: "list[subprocess.Popen[bytes]]") -> None:
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + STOP_SECONDS
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
