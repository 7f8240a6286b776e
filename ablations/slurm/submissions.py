"""What was submitted: `runs/slurm/<job>.json` names the runs of a job or array. Beside it lie its script and logs.

Written by the launcher right after sbatch has answered, and never changed.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ablations.slurm.queue import in_queue
from diffussm.errors import UserError
from diffussm.store.rundir import RunDir
from diffussm.store.workdir import read_json
from diffussm.store.writing import link_first, to_json

FOLDER = "slurm"


@dataclass(frozen=True)
class Submission:
    """Job or array `job`: of trainings, element i is that of run i; of evaluations, one job for all runs."""

    job: str
    kind: Literal["train", "evaluate"]
    runs: tuple[str, ...]  # ids
    code: str  # digest of the copy of the code that it runs

    def elements(self) -> list[tuple[str, tuple[str, ...]]]:
        """Each job with the ids of its runs."""
        if self.kind == "evaluate" or len(self.runs) == 1:
            return [(self.job, self.runs)]
        return [(f"{self.job}_{index}", (run,)) for index, run in enumerate(self.runs)]

    def write(self, runs: Path) -> None:
        """UserError where a job of that number was submitted before, as on another cluster."""
        path = folder(runs) / f"{self.job}.json"
        if not link_first(path, to_json(self.__dict__)):
            raise UserError(f"{path}: is another job's, of a cluster whose numbers began anew: give another --runs")


def closing(runs: Path, job: str) -> Path:
    """The mark of an evaluator that is about to end. With it there, it looks once more at what was submitted, and a
    launch does not count on it: of the two one at least sees the other."""
    return folder(runs) / f"{job}.closing"


def folder(runs: Path) -> Path:
    """Where scripts, logs and records of jobs lie."""
    return runs / FOLDER


def read(runs: Path) -> list[Submission]:
    """All submissions, the oldest first."""
    paths = sorted(folder(runs).glob("[0-9]*.json"), key=lambda path: int(path.stem))
    return [_read(path) for path in paths]


def jobs_of(submissions: list[Submission]) -> dict[str, list[tuple[str, str]]]:
    """For each run id its jobs, the oldest first: (job, kind)."""
    out: dict[str, list[tuple[str, str]]] = {}
    for submission in submissions:
        for job, runs in submission.elements():
            for run in runs:
                out.setdefault(run, []).append((job, submission.kind))
    return out


def code_in_use(runs: Path) -> set[str]:
    """Digests of the code of jobs that wait or run; of all jobs ever where no scheduler answers."""
    found = read(runs)
    queued = in_queue() if found else {}
    return {s.code for s in found if queued is None or any(job in queued for job, _ in s.elements())}


def logs(run: RunDir, kind: Literal["train", "evaluate"] = "train") -> list[Path]:
    """What SLURM itself noted of the run's jobs: outputs and complaints of every task."""
    runs = run.path.parent
    jobs = [job for job, what in jobs_of(read(runs)).get(run.run_id, []) if what == kind]
    return [path for job in jobs for path in sorted(folder(runs).glob(f"{job}_*_log.*"), key=_task)]


def _task(log: Path) -> tuple[int, str]:
    """`12_3_0_log.err` -> (0, .err)."""
    return int(log.stem.removesuffix("_log").rpartition("_")[2]), log.suffix


def _read(path: Path) -> Submission:
    content: dict[str, Any] = read_json(path)
    return Submission(**{**content, "runs": tuple(content["runs"])})
