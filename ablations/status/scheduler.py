"""What the state of a run needs of a scheduler: the status of the newest job of the run."""

from dataclasses import dataclass
from typing import Literal, Protocol

JobPhase = Literal["queued", "running", "ended"]
# A completing job counts as queued: it may be requeued, so how the run ends is not known yet.
QUEUED = ("PENDING", "COMPLETING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD")
RUNNING = ("RUNNING", "CONFIGURING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING")


@dataclass(frozen=True)
class JobStatus:
    """The status of job `job`: SLURM's name of its state, and the reason that it gives, or the exit code."""

    job: str
    state: str
    reason: str = ""

    @property
    def is_held(self) -> bool:
        """Whether the job is pending and will not start by itself, as after a failed launch."""
        return self.state == "PENDING" and "held" in self.reason.lower()

    @property
    def phase(self) -> JobPhase:
        return "queued" if self.state in QUEUED else "running" if self.state in RUNNING else "ended"


class Scheduler(Protocol):
    """Anything that can be asked for the newest job of a run."""

    def newest_job(self, run_id: str, kind: str) -> JobStatus | None:
        """Return the newest job that trains (kind: train) or evaluates (kind: evaluate) the run; None if there is none,
        or if its status is unknown."""


class NoScheduler:
    """Stands for a scheduler where no jobs are submitted."""

    def newest_job(self, run_id: str, kind: str) -> JobStatus | None:  # noqa: ARG002
        return None


NO_SCHEDULER = NoScheduler()
