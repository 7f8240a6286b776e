"""How a job hears that it is cut off, and asks to go on: SIGUSR2 before a time limit or preemption, SIGTERM at the end.

The handlers take the place of submitit's, which would count time-outs, and requeue while others still write. On SIGTERM
nothing is queued again: SLURM itself does that with preempted jobs and those of lost nodes, and a cancelled one is to
stay cancelled.
"""

import os
import re
import signal
import time
from typing import Any

from ablations.slurm.commands import ask, tell
from diffussm.stopping import Stopped, StopRequest

NOTICE = "DIFFUSSM_NOTICE_SECONDS"  # set in the script: how long before the time limit SIGUSR2 is sent
EARLIER_SECONDS = 60  # than that it may come
REASONS = {"timed out": "the job's time limit", "preempted": "preempted by SLURM", "stopped": "SIGTERM"}


class Interruption:
    """Sets `stop`, which all work of the job polls; its phase is preempted, timed out or stopped."""

    def __init__(self) -> None:
        self.stop = StopRequest()
        self._terminated = self._requeued = False
        self._ends = float("inf")  # as this process' clock counts; the first task knows, and tells
        for number in (signal.SIGUSR2, signal.SIGTERM):
            signal.signal(number, self._hear)
        if is_first_task():
            self._ends = time.monotonic() + seconds_left()

    def seconds_left(self) -> float:
        return self._ends - time.monotonic()

    def learn(self, seconds_left: float) -> None:
        """How long there is until the time limit."""
        self._ends = time.monotonic() + seconds_left

    def sleep(self, seconds: float) -> None:
        """Until a signal comes, or the time is over."""
        deadline = time.monotonic() + seconds
        while not self.stop.stopped and time.monotonic() < deadline:
            time.sleep(min(0.2, seconds))

    def requeue(self, phase: str) -> None:
        """Queue this job again, once, where it was cut off with notice."""
        if phase not in ("preempted", "timed out") or self._terminated or self._requeued or not is_first_task():
            return
        self._requeued = True
        if complaint := tell("scontrol", "requeue", job_here()):
            print(f"job {job_here()} cannot be queued again: {complaint}", flush=True)

    def make_room(self) -> None:
        """Queue this job again, behind those that are worth more."""
        self.requeue("preempted")

    def _hear(self, number: int, _: Any) -> None:
        if number == signal.SIGTERM:
            self._terminated = True
        phase = "stopped" if number == signal.SIGTERM else self._which()
        self.stop.set(Stopped(REASONS[phase], phase))

    def _which(self) -> str:
        notice = float(os.environ.get(NOTICE, "0")) + EARLIER_SECONDS
        return "timed out" if self.seconds_left() <= notice else "preempted"


def job_here() -> str:
    """The id of the job that this process belongs to, as squeue shows it; "" outside."""
    if array := os.environ.get("SLURM_ARRAY_JOB_ID"):
        return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ.get("SLURM_JOB_ID", "")


def is_first_task() -> bool:
    return os.environ.get("SLURM_PROCID", "0") == "0"


def seconds_left() -> float:
    """Until this job's time limit; infinite where there is none, or none that is known."""
    said = (ask("squeue", "--noheader", "--job", job_here(), "--format", "%L") or "").strip()
    found = re.fullmatch(r"(?:(?:(\d+)-)?(\d+):)?(\d+):(\d+)", said)
    if not found:
        return float("inf")
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
