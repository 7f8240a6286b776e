"""SLURM as the scheduler of runs: the status of their jobs, queried once for all runs."""

from collections.abc import Collection
from pathlib import Path

from ablations.slurm import queue, submissions
from ablations.slurm.commands import execute
from ablations.status.scheduler import JobStatus


class Slurm:
    """SLURM, queried once, when the first run needs it; never where nothing was submitted from the folder `runs`."""

    def __init__(self, runs: Path):
        self._runs = runs
        submitted = submissions.find(runs)
        self.damaged = submitted.damaged  # submissions whose runs are unknown
        self._jobs = submissions.jobs_of(submitted.submissions)
        self._statuses: dict[str, JobStatus] | None = None
        self.is_reachable = True

    def newest_job(self, run_id: str, kind: str) -> JobStatus | None:
        job = self._newest_id(run_id, kind)
        if job is None:
            return None
        if self._statuses is None:
            newest = {self._newest_id(run, what) for run in self._jobs for what in ("train", "evaluate")}
            found = queue.job_statuses([job for job in newest if job])
            self.is_reachable, self._statuses = found is not None, found or {}
        return self._statuses.get(job)

    def has_job(self, run_id: str, kind: str) -> bool:
        """Return whether a job of the kind is pending or running for the run, or may be, where SLURM does not
        answer."""
        job = self.newest_job(run_id, kind)
        if not self.is_reachable:
            return self._newest_id(run_id, kind) is not None
        return job is not None and job.phase != "ended"

    def has_evaluator(self, run_id: str) -> bool:
        """Return whether an evaluator is pending or running that will evaluate further milestones of the run."""
        job = self._newest_id(run_id, "evaluate")
        if job is None or not self.has_job(run_id, "evaluate"):
            return False
        return not submissions.closing_marker(self._runs, job).exists()

    def cancel_pending(self, run_ids: Collection[str]) -> str:
        """Cancel the trainings of the runs that have not started; returns SLURM's error message, or "".

        scancel --state=PENDING would cancel all pending elements of an array.
        """
        newest = (self.newest_job(run, "train") for run in run_ids)
        pending = [job.job for job in newest if job and job.phase == "queued"]
        return execute("scancel", *pending) if pending else ""

    def _newest_id(self, run_id: str, kind: str) -> str | None:
        return next((job for job, what in reversed(self._jobs.get(run_id, [])) if what == kind), None)
