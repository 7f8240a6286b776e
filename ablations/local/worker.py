"""A worker process of the local pool: executes one task after another, as its launcher hands them over.

A line of JSON on stdin is a task and the attempt that it follows; a line on stdout is the outcome. What a task prints
goes to the log in its folder. A worker whose launcher is gone stops after a checkpoint.
"""

import argparse
import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

from diffussm.errors import UserError
from diffussm.host import source
from diffussm.run.claim import assume_owner_dead, claim_task
from diffussm.run.outcome import Outcome, outcome_of, print_failure
from diffussm.run.runner import TaskRunner
from diffussm.run.tasks import Task
from diffussm.stopping import Stopped, StopRequest, stopped_by

WATCH_SECONDS = 1.0  # between checks that the launcher is alive


class Worker:
    """Executes tasks for the process `launcher`, which started this one."""

    def __init__(self, answers: TextIO, launcher: int, threads: int, gpus: Sequence[str] = ()):
        self.answers, self.launcher = answers, launcher
        self.threads, self.gpus = threads, gpus
        self.stop = StopRequest()
        self._is_busy = False

    def serve(self) -> None:
        """Execute the tasks read from stdin, until it ends or a signal arrives."""
        for line in sys.stdin:
            message = json.loads(line)
            expected_owner = message.pop("expected_owner")
            self._is_busy = True
            outcome = self._execute(Task(**{**message, "run": Path(message["run"])}), expected_owner)
            self._is_busy = False
            self.answers.write(json.dumps(outcome.__dict__) + "\n")
            self.answers.flush()
            if self.stop.stopped:
                return

    def handle_signal(self, number: int, _: Any) -> None:
        """Stop the task, after a checkpoint, and exit (a signal handler)."""
        self.stop.set(stopped_by(number))
        if not self._is_busy:
            raise SystemExit(0)

    def watch_launcher(self) -> None:
        """Stop the task once the launcher is gone (a thread)."""
        while os.getppid() == self.launcher:
            time.sleep(WATCH_SECONDS)
        self.stop.set(Stopped("the launcher is gone"))

    def _execute(self, task: Task, expected_owner: int) -> Outcome:
        try:
            runner = TaskRunner(task.run, stop=self.stop, threads=self.threads, to_logs=True)
        except (UserError, OSError) as error:
            return outcome_of(error)
        number = None
        try:
            if (number := claim_task(task, assume_owner_dead, expected_owner, gpus=self.gpus)) is None:
                return Outcome("superseded", "another process has the task or did it")
            runner.execute(task, number)
        except Exception as error:
            outcome = outcome_of(error, runner.has_progress)
            if outcome.kind == "failed":
                print_failure(error)
                with contextlib.suppress(OSError):
                    if number and task.folder.owner() != number:
                        return Outcome("superseded", outcome.reason)
            return replace(outcome, log=str(task.folder.log_path(number))) if number else outcome
        finally:
            with contextlib.suppress(OSError):  # the disk of the log may be full
                sys.stdout.flush()
        return Outcome("done")


def main() -> int:
    parser = argparse.ArgumentParser(description="Work for a launcher; see the module's docstring.")
    parser.add_argument("--launcher", type=int, required=True, metavar="PID")
    parser.add_argument("--code", type=Path, required=True, metavar="DIR", help="the copy of the code that must run")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--gpus", default="", metavar="NAMES", help="the GPUs that it has, as in CUDA_VISIBLE_DEVICES")
    options = parser.parse_args()
    if options.code.resolve() != source.ROOT.resolve():
        raise SystemExit(f"{options.code}: the copy of the code is gone; this is {source.ROOT}")
    gpus = list(filter(None, options.gpus.split(",")))
    worker = Worker(os.fdopen(os.dup(1), "w"), options.launcher, options.threads, gpus)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, worker.handle_signal)
    threading.Thread(target=worker.watch_launcher, daemon=True).start()
    worker.serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
