"""What the scheduler knows of the jobs of runs, for whoever looks at many runs at once."""

from collections.abc import Collection
from pathlib import Path

from ablations.slurm import queue, submissions
from ablations.slurm.commands import tell
from ablations.status.scheduler import Seen


class Slurm:
    """SLURM, asked once, when the first run needs it; never where nothing was submitted from the folder `runs`."""

    def __init__(self, runs: Path):
        self._runs = runs
        self._jobs = submissions.jobs_of(submissions.read(runs))
        self._seen: dict[str, Seen] | None = None
        self.answers = True

    def of(self, run_id: str, kind: str) -> Seen | None:
        job = self._newest(run_id, kind)
        if job is None:
            return None
        if self._seen is None:
            newest = {self._newest(run, what) for run in self._jobs for what in ("train", "evaluate")}
            found = queue.look([job for job in newest if job])
            self.answers, self._seen = found is not None, found or {}
        return self._seen.get(job)

    def has(self, run_id: str, kind: str) -> bool:
        """Whether a job of the kind waits or runs for the run, or may, as far as anybody tells."""
        seen = self.of(run_id, kind)
        if not self.answers:
            return self._newest(run_id, kind) is not None
        return seen is not None and seen.phase != "ended"

    def will_be_evaluated(self, run_id: str) -> bool:
        """Whether an evaluator waits or runs that will see milestones to come."""
        job = self._newest(run_id, "evaluate")
        return job is not None and self.has(run_id, "evaluate") and not submissions.closing(self._runs, job).exists()

    def cancel_waiting(self, run_ids: Collection[str]) -> str:
        """Take the runs' trainings that have not started out of the queue; returns what SLURM complains of, or "".

        Not with --state=PENDING, which would take all elements of an array that wait.
        """
        waiting = [seen.job for run in run_ids if (seen := self.of(run, "train")) and seen.phase == "queued"]
        return tell("scancel", *waiting) if waiting else ""

    def _newest(self, run_id: str, kind: str) -> str | None:
        return next((job for job, what in reversed(self._jobs.get(run_id, [])) if what == kind), None)
