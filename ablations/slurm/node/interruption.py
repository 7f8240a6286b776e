"""Interruptions of a job: SIGUSR2 before a time limit or preemption, upon which the job is requeued, and SIGTERM.

The handlers replace those of submitit, which count time-outs, and requeue the job while other tasks still write. After
SIGTERM the job is not requeued: SLURM itself requeues preempted jobs and those of lost nodes, and a cancelled job must
stay cancelled.
"""

import os
import re
import signal
import time
from typing import Any

from ablations.slurm.commands import execute, query
from diffussm.stopping import Stopped, StopRequest

NOTICE = "DIFFUSSM_NOTICE_SECONDS"  # set in the script: the time between SIGUSR2 and the time limit
TOLERANCE_SECONDS = 60  # by which SIGUSR2 may come earlier
REASONS = {"timed out": "the job's time limit", "preempted": "preempted by SLURM", "stopped": "SIGTERM"}


class Interruption:
    """Handles the signals: it sets `stop`, which all tasks of the job poll, with phase preempted, timed out or
    stopped."""

    def __init__(self) -> None:
        self.stop = StopRequest()
        self._terminated = self._requeued = False
        self._ends = float("inf")  # on the monotonic clock; rank 0 queries it and broadcasts it
        for number in (signal.SIGUSR2, signal.SIGTERM):
            signal.signal(number, self._handle)
        if is_rank_zero():
            self._ends = time.monotonic() + query_remaining_seconds()

    def remaining_seconds(self) -> float:
        """Return the time until the time limit of the job; infinite if it is unknown."""
        return self._ends - time.monotonic()

    def set_remaining_seconds(self, seconds: float) -> None:
        """Set the time until the time limit, as broadcast by rank 0."""
        self._ends = time.monotonic() + seconds

    def sleep(self, seconds: float) -> None:
        """Sleep until a signal arrives, or the time is over."""
        deadline = time.monotonic() + seconds
        while not self.stop.stopped and time.monotonic() < deadline:
            time.sleep(min(0.2, seconds))

    def requeue(self, phase: str) -> None:
        """Requeue this job, at most once, if it was interrupted by SIGUSR2."""
        if phase not in ("preempted", "timed out") or self._terminated or self._requeued or not is_rank_zero():
            return
        self._requeued = True
        if error := execute("scontrol", "requeue", current_job_id()):
            print(f"job {current_job_id()} cannot be requeued: {error}", flush=True)

    def yield_resources(self) -> None:
        """Requeue this job behind jobs of higher priority, so that they get its resources."""
        self.requeue("preempted")

    def _handle(self, number: int, _: Any) -> None:
        if number == signal.SIGTERM:
            self._terminated = True
        phase = "stopped" if number == signal.SIGTERM else self._phase_of_notice()
        self.stop.set(Stopped(REASONS[phase], phase))

    def _phase_of_notice(self) -> str:
        """Return which of the two reasons for SIGUSR2 applies: near the time limit it is that, otherwise preemption."""
        notice = float(os.environ.get(NOTICE, "0")) + TOLERANCE_SECONDS
        return "timed out" if self.remaining_seconds() <= notice else "preempted"


def current_job_id() -> str:
    """Return the id of the job that this process belongs to, as squeue shows it; "" outside of jobs."""
    if array := os.environ.get("SLURM_ARRAY_JOB_ID"):
        return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ.get("SLURM_JOB_ID", "")


def is_rank_zero() -> bool:
    """Return whether this is the first task of the job."""
    return os.environ.get("SLURM_PROCID", "0") == "0"


def query_remaining_seconds() -> float:
    """Return the time until the time limit of this job, from squeue; infinite if there is none, or it is unknown."""
    text = (query("squeue", "--noheader", "--job", current_job_id(), "--format", "%L") or "").strip()
    found = re.fullmatch(r"(?:(?:(\d+)-)?(\d+):)?(\d+):(\d+)", text)
    if not found:
        return float("inf")
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
