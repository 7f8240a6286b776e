"""The launcher's side of a worker process: starts it, sends it tasks, reads its answers, stops it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

from ablations.local.gpu_locks import Locks, unlock
from ablations.local.slots import SlotLayout
from diffussm.run.outcome import Outcome
from diffussm.run.tasks import Task

STOP_SECONDS = 30.0


class WorkerProcess:
    """A process that does one task at a time (`python -m ablations.local.worker`) on the slots `slots`.

    `code` is the folder of the copy of the code that it runs. It inherits `locks`, those of its GPUs. Its stderr is
    kept, so that its last line can be reported if it dies before its task has a log.
    """

    def __init__(self, slots: tuple[int, ...], layout: SlotLayout, code: Path, locks: Locks):
        self.slots = slots
        self.task: Task | None = None
        self.expected_owner = 0  # of the task's folder, before the task
        self.alive = True
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        threads = layout.threads * len(slots)
        path = os.pathsep.join(filter(None, [str(code), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": path}
        arguments = ["--launcher", str(os.getpid()), "--threads", str(threads), "--code", str(code)]
        if gpus := ",".join(layout.gpus_of(slots)):
            environment["CUDA_VISIBLE_DEVICES"] = gpus
            arguments += ["--gpus", gpus]
        self.process = subprocess.Popen(
            # -P: modules are imported from the copy of the code, not from the working directory
            [sys.executable, "-P", "-m", "ablations.local.worker", *arguments],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            start_new_session=True,  # Ctrl-C reaches the launcher alone, which then stops its workers in order
            pass_fds=[file.fileno() for file in locks],
        )
        unlock(locks)  # here: the worker has them now, even if this process is killed

    @property
    def answers(self) -> IO[bytes]:
        """The pipe on which the worker answers; it is readable once a task has ended or the worker has died."""
        assert self.process.stdout is not None
        return self.process.stdout

    def start(self, task: Task, expected_owner: int) -> None:
        """Send the task to the worker, which claims it if its newest attempt is still `expected_owner`."""
        self.task, self.expected_owner = task, expected_owner
        message = {**task.__dict__, "run": str(task.run.absolute()), "expected_owner": expected_owner}
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has died, which read_outcome reports
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()

    def read_outcome(self) -> Outcome:
        """How the task ended. Blocks until `answers` is readable; a worker that has died is marked so."""
        if line := self.answers.readline():
            return Outcome(**json.loads(line))
        self.alive = False
        code = self.process.wait()
        if code in (0, -signal.SIGTERM):
            return Outcome("stopped", "the worker was asked to stop")
        log = self.task.folder.log_paths()[-1:] if self.task else []
        if code < 0:
            return Outcome(
                "failed", f"killed by {signal.Signals(-code).name}", "".join(map(str, log)), is_transient=True
            )
        self._stderr.seek(0)
        last = self._stderr.read().decode(errors="replace").strip().splitlines()[-1:]
        return Outcome("failed", " ".join([f"the worker ended with exit code {code}", *last]))

    def terminate(self) -> None:
        """Ask the worker to stop its task after a checkpoint, and to end."""
        self.process.terminate()

    def close(self, seconds: float = STOP_SECONDS) -> None:
        """Close the worker's stdin, upon which it ends, and wait for that; kill it after `seconds`."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.answers.close()
        self._stderr.close()
