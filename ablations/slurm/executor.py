"""Submission through submitit: arrays of trainings and the job that evaluates. The only file that imports submitit.

A job's pickle holds paths alone. Everything else a job needs lies in run folders, so whether one is done, alive or
failed is read there, never from submitit's results: those of a job that ran twice are mixed, and accounting lags.
"""

import contextlib
import io
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError, JobPaths

from ablations.grid.schema import Resources
from ablations.slurm import submissions
from ablations.slurm.arrays import Array
from ablations.slurm.commands import tell
from ablations.slurm.environment import scrubbed
from ablations.slurm.node.interruption import NOTICE
from ablations.slurm.node.jobs import Evaluations, Probe, Training
from ablations.slurm.options import Value
from ablations.slurm.profile import Kind, Profile
from ablations.slurm.submissions import Submission
from diffussm.errors import UserError

NATIVE = ("nodes", "ntasks_per_node")  # which submitit must know itself, to count tasks
NOTHING: Mapping[str, Value] = {}
SLURM_WOULD_READ = "%\n\\"  # in the names of logs


@dataclass(frozen=True)
class Launch:
    """Jobs of one launch: `runs` is the folder of the run folders, `code` the copy of the code, `name` the grid's."""

    runs: Path
    code: Path
    name: str
    profile: Profile

    def scripts(self, arrays: Sequence[Array], evaluated: Sequence[str]) -> list[str]:
        """The exact texts that sbatch would be given, the evaluator's last; of arrays that wait, the job that they wait
        for is not known before."""
        out, before = [], ""
        for array in arrays:
            executor = self._executor("train", array.needs, before if array.waits else "")
            out.append(executor.script(len(array.jobs)))
            before = "<the array before>"
        if evaluated:
            out.append(self._executor("evaluate").script(1))
        return out

    def examples(self) -> dict[Kind, str]:
        """A script of each kind, for a look at whether the cluster takes it."""
        return {"train": self._executor("train").script(1), "evaluate": self._executor("evaluate").script(1)}

    def probe(self) -> tuple[str, Path]:
        """Submit a job that looks around on a node: its id, and the file that it writes what it found to."""
        answer = submissions.folder(self.runs).absolute() / f".probe-{os.urandom(4).hex()}.json"
        with scrubbed():
            (job,) = self._submit(self._executor("evaluate", more={"time": "5"}), [Probe(str(answer))])
        return job.job_id, answer

    def submit(
        self, arrays: Sequence[Array], evaluated: Callable[[], Sequence[str]], told: Callable[[Submission], None]
    ) -> None:
        """One sbatch for each array, then the evaluator of the runs whose ids `evaluated` gives then; each is recorded,
        and `told`, at once. UserError with SLURM's words where it refuses: what was submitted before goes on."""
        before = ""
        with scrubbed():
            for array in arrays:
                executor = self._executor("train", array.needs, before if array.waits else "")
                work = [Training(str(job.run.path.absolute())) for job in array.jobs]
                runs = tuple(job.run.run_id for job in array.jobs)
                submission = self._submitted(executor, "train", work, runs)
                before = submission.job
                told(submission)
            if ids := tuple(evaluated()):
                all_of_them = Evaluations(str(self.runs.absolute()), ids)
                told(self._submitted(self._executor("evaluate"), "evaluate", [all_of_them], ids))

    def _submitted(
        self, executor: "Executor", kind: Kind, work: Sequence[Callable[[], None]], runs: tuple[str, ...]
    ) -> Submission:
        jobs = self._submit(executor, work)
        submission = Submission(jobs[0].job_id.partition("_")[0], kind, runs, self.code.name)
        try:
            submission.write(self.runs)
        except UserError:
            tell("scancel", submission.job)  # nobody would know whose it is
            raise
        return submission

    @staticmethod
    def _submit(executor: "Executor", work: Sequence[Callable[[], None]]) -> list[Any]:
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # submitit says there what it raises
                return executor.submit_array(work)
        except (FailedJobError, FailedSubmissionError) as error:
            complaints = (line.removeprefix("sbatch: error: ") for line in str(error).strip().splitlines())
            raise UserError(f"sbatch refuses: {'; '.join(complaints)}") from None

    def _executor(
        self, kind: Kind, needs: Resources | None = None, after: str = "", more: Mapping[str, Value] = NOTHING
    ) -> "Executor":
        options: dict[str, Value] = {"job_name": f"diffussm-{self.name}{'-evaluator' * (kind == 'evaluate')}"}
        options |= {**self.profile.options(kind, needs), **more}
        if after:
            options["dependency"] = ",".join(filter(None, [str(options.get("dependency", "")), f"afterany:{after}"]))
        cpus = options.get("cpus_per_task")
        return Executor(
            folder=submissions.folder(self.runs).absolute(),
            python=f"{self.profile.python or shlex.quote(sys.executable)} -P",
            options=options,
            # srun does not take the batch script's --cpus-per-task since SLURM 22.05
            srun=[*self.profile.srun, *([f"--cpus-per-task={cpus}"] if cpus else [])],
            setup=[*self._variables(int(cpus or 1), str(options.get("signal", ""))), *self.profile.setup],
            throttle=self.profile.throttle if kind == "train" else 0,
        )

    def _variables(self, cpus: int, signal: str) -> Iterable[str]:
        values = {"OMP_NUM_THREADS": str(cpus)}
        if found := re.fullmatch(r"USR2@(\d+)", signal):
            values[NOTICE] = found[1]
        values |= self.profile.environment
        yield from (f"export {name}={shlex.quote(value)}" for name, value in values.items())
        yield f"export PYTHONPATH={shlex.quote(str(self.code.absolute()))}${{PYTHONPATH:+:$PYTHONPATH}}"


class Executor(submitit.SlurmExecutor):
    """submitit's, with any option of sbatch, none of its own defaults, and scripts that can be seen beforehand."""

    def __init__(
        self, folder: Path, python: str, options: dict[str, Any], srun: list[str], setup: list[str], throttle: int
    ):
        if any(sign in str(folder) for sign in SLURM_WOULD_READ):
            raise UserError(
                f"--runs: {folder}: must hold no %, no \\ and no line break, which SLURM reads in names of logs"
            )
        super().__init__(folder, max_num_timeout=sys.maxsize, python=python)
        self._options, self._throttle_runs = options, throttle
        given = {name: value for name, value in options.items() if value != ""}
        self.update_parameters(
            **{name: int(given[name]) for name in NATIVE if name in given},
            additional_parameters={name: value for name, value in given.items() if name not in NATIVE},
            srun_args=srun,
            setup=setup,
        )

    @classmethod
    def affinity(cls) -> int:
        """Scripts can be made anywhere; sbatch itself says where it is missing."""
        return 1

    def script(self, count: int) -> str:
        """What sbatch is given for an array of `count` jobs."""
        self._count(count)
        return self._make_submission_file_text(self._submitit_command_str, "")

    def _count(self, count: int) -> None:
        if count > 1:
            self.parameters |= {"map_count": count, "array_parallelism": self._throttle_runs or count}

    def _make_submission_file_text(self, command: str, uid: str) -> str:
        """Without the options that submitit gives by itself and the profile does not."""
        kept = {name.replace("_", "-") for name, value in self._options.items() if value != ""}
        kept |= {"array", "output", "error", "open-mode"}
        lines = super()._make_submission_file_text(command, uid).splitlines()
        return "\n".join(line for line in lines if _option(line) in kept | {""}) + "\n"

    def _internal_process_submissions(self, delayed_submissions: list[Any]) -> list[Any]:
        """As submitit's, which would make arrays with an executor of its own kind."""
        if len(delayed_submissions) == 1:
            return super()._internal_process_submissions(delayed_submissions)
        self._count(len(delayed_submissions))
        folder = JobPaths.get_first_id_independent_folder(self.folder)
        folder.mkdir(parents=True, exist_ok=True)
        own = os.urandom(4).hex()  # another launch may be at it too
        pickles = [folder / f".{own}-{number}.pkl" for number, _ in enumerate(delayed_submissions)]
        for delayed, pickle in zip(delayed_submissions, pickles, strict=True):
            delayed.dump(pickle)
        first = self._submit_command(self._submitit_command_str)
        jobs: list[Any] = [
            submitit.SlurmJob(folder=self.folder, job_id=f"{first.job_id}_{number}", tasks=[0])
            for number, _ in enumerate(pickles)
        ]
        for job, pickle in zip(jobs, pickles, strict=True):
            job.paths.move_temporary_file(pickle, "submitted_pickle")
        return jobs


def _option(line: str) -> str:
    """The option of a line of a script; "" of other lines."""
    return line.removeprefix("#SBATCH --").partition("=")[0] if line.startswith("#SBATCH --") else ""
