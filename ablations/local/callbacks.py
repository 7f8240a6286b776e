"""The callbacks through which the executors of this machine report progress."""

from collections.abc import Sequence
from typing import Protocol

from ablations.plan.job import Job
from diffussm.run.outcome import Outcome
from diffussm.run.tasks import Task


class ProgressCallbacks(Protocol):
    def on_progress(self, active: Sequence[tuple[int, Task]]) -> None:
        """Called several times a second with each busy slot and the task on it."""

    def on_retry(self, task: Task, reason: str) -> None:
        """Called when a task has failed and is tried again."""

    def on_wait(self, gpus: Sequence[str]) -> None:
        """Called when tasks wait for GPUs that another launch uses."""

    def on_end(self, job: Job, outcome: Outcome) -> None:
        """Called when nothing more is done for a run in this launch."""
