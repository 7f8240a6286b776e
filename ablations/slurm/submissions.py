"""Submissions: `runs/slurm/<job>.json` names the runs of a job or array; its script and logs are beside it.

The launcher writes the file right after sbatch has returned, and it never changes.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from ablations.slurm.queue import queued_jobs
from diffussm.errors import UserError
from diffussm.store.names import Name, child
from diffussm.store.reading import StoredModel, read_model
from diffussm.store.rundir import RunDir
from diffussm.store.writing import to_json, write_once

FOLDER = "slurm"


class Submission(StoredModel):
    """A submitted job or array: for trainings, element i trains run i; for evaluations, one job serves all runs."""

    repair: ClassVar[str] = "restore it, or delete it, whereupon its runs may be submitted once more"

    job: str = Field(pattern=r"^[0-9]+$")
    kind: Literal["train", "evaluate"]
    runs: tuple[Name, ...] = Field(description="ids")
    code: Name = Field(description="digest of the copy of the code that it runs")
    submitted: str = Field("", description="when, UTC in ISO 8601; empty: not stated, as versions of before did not")

    def elements(self) -> list[tuple[str, tuple[str, ...]]]:
        """Return the id of each job, with the ids of its runs."""
        if self.kind == "evaluate" or len(self.runs) == 1:
            return [(self.job, self.runs)]
        return [(f"{self.job}_{index}", (run,)) for index, run in enumerate(self.runs)]

    def write(self, runs: Path) -> None:
        """Write the file; raise UserError if one of that number exists already, as from another cluster."""
        path = folder(runs) / f"{self.job}.json"
        if not write_once(path, to_json(self.model_dump(mode="json"))):
            raise UserError(f"{path}: already exists, from another cluster or an older job; give another --runs")


def closing_marker(runs: Path, job: str) -> Path:
    """Return the path of the file by which an evaluator announces that it is closing. The evaluator creates it and then
    looks once more for submissions; a launch that finds it submits another evaluator. So at least one of the two
    notices the other."""
    return child(folder(runs), f"{job}.closing")


def folder(runs: Path) -> Path:
    """Return the folder of the scripts, logs and submissions of jobs."""
    return runs / FOLDER


@dataclass(frozen=True)
class Submitted:
    """All submissions, the oldest first, and the errors of those that are damaged."""

    submissions: list[Submission]
    damaged: list[UserError]


def find(runs: Path) -> Submitted:
    """Return what was submitted."""
    paths = [path for path in folder(runs).glob("*.json") if re.fullmatch(r"[0-9]+", path.stem)]
    found = Submitted([], [])
    for path in sorted(paths, key=lambda path: int(path.stem)):
        try:
            found.submissions.append(read_model(path, Submission))
        except UserError as damage:
            found.damaged.append(damage)
    return found


def jobs_of(submissions: list[Submission]) -> dict[str, list[tuple[str, str]]]:
    """Return the jobs (job, kind) of each run id, the oldest first."""
    out: dict[str, list[tuple[str, str]]] = {}
    for submission in submissions:
        for job, runs in submission.elements():
            for run in runs:
                out.setdefault(run, []).append((job, submission.kind))
    return out


def code_in_use(runs: Path) -> set[str]:
    """Return the digests of the code of pending and running jobs; of all jobs if no scheduler answers. Raise
    UserError if a submission is damaged: its code may be in use."""
    submitted = find(runs)
    if submitted.damaged:
        raise submitted.damaged[0]
    found = submitted.submissions
    queued = queued_jobs() if found else {}
    return {s.code for s in found if queued is None or any(job in queued for job, _ in s.elements())}


def logs(run: RunDir, kind: Literal["train", "evaluate"] = "train") -> list[tuple[str, Path]]:
    """Return the logs that SLURM wrote for the run's jobs, stdout and stderr of every task, each with the time when its
    job was submitted ("": not stated)."""
    runs, found = run.path.parent, find(run.path.parent).submissions
    jobs = [job for job, what in jobs_of(found).get(run.run_id, []) if what == kind]
    times = {submission.job: submission.submitted for submission in found}
    return [
        (times[job.partition("_")[0]], path)
        for job in jobs
        for path in sorted(folder(runs).glob(f"{job}_*_log.*"), key=_task)
    ]


def _task(log: Path) -> tuple[int, str]:
    """`12_3_0_log.err` -> (0, .err)."""
    return int(log.stem.removesuffix("_log").rpartition("_")[2]), log.suffix
