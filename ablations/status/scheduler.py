"""What a run's state needs of a scheduler: the newest job of a run, and what has become of it."""

from dataclasses import dataclass
from typing import Literal, Protocol

Phase = Literal["queued", "running", "ended"]
# A job that completes may be about to wait again: what ends with it is not known yet.
QUEUED = ("PENDING", "COMPLETING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD")
RUNNING = ("RUNNING", "CONFIGURING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING")


@dataclass(frozen=True)
class Seen:
    """A job as the scheduler sees it: `word` is SLURM's name of its state, `why` its reason or exit code."""

    job: str
    word: str
    why: str = ""

    @property
    def is_held(self) -> bool:
        """Whether it waits, and never starts by itself, as after a launch that failed."""
        return self.word == "PENDING" and "held" in self.why.lower()

    @property
    def phase(self) -> Phase:
        return "queued" if self.word in QUEUED else "running" if self.word in RUNNING else "ended"


class Scheduler(Protocol):
    """Who can be asked for the newest job of a run."""

    def of(self, run_id: str, kind: str) -> Seen | None:
        """The newest job that trains (kind: train) or evaluates the run; None where there is none, or none knows."""


class Nobody:
    """No scheduler is asked."""

    def of(self, run_id: str, kind: str) -> Seen | None:  # noqa: ARG002
        return None


NOBODY = Nobody()
