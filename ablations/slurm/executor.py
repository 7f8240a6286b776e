"""Submission through submitit: arrays of trainings, and the job that evaluates. The only file that imports submitit.

A job's pickle holds paths alone; everything else that a job needs is in run folders. Whether a run is done, alive or
failed is read there too, never from submitit's results, which mix the attempts of a job that ran twice.
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
from ablations.slurm.commands import execute
from ablations.slurm.environment import scrubbed
from ablations.slurm.node.interruption import NOTICE
from ablations.slurm.node.jobs import Evaluations, Probe, Training
from ablations.slurm.options import Value
from ablations.slurm.profile import Kind, Profile
from ablations.slurm.submissions import Submission
from diffussm.errors import UserError
from diffussm.host.clock import utc

SUBMITIT_OPTIONS = ("nodes", "ntasks_per_node")  # submitit must know them, to count tasks
NO_OPTIONS: Mapping[str, Value] = {}
SPECIAL_IN_LOG_NAMES = "%\n\\"


@dataclass(frozen=True)
class SlurmLauncher:
    """Submits the jobs of one launch. `runs` is the folder of the run folders, `code` the copy of the code, `name` the
    name of the grid."""

    runs: Path
    code: Path
    name: str
    profile: Profile

    def scripts(self, arrays: Sequence[Array], evaluated: Sequence[str]) -> list[str]:
        """Return the exact scripts for sbatch, the evaluator's last. Where an array waits for another, a placeholder
        stands for the id of that job, which is known only after submission."""
        out, before = [], ""
        for array in arrays:
            executor = self._executor("train", array.needs, before if array.depends_on_previous else "")
            out.append(executor.script(len(array.jobs)))
            before = "<the array before>"
        if evaluated:
            out.append(self._executor("evaluate").script(1))
        return out

    def examples(self) -> dict[Kind, str]:
        """Return a script of each kind, to check whether the cluster accepts it."""
        return {"train": self._executor("train").script(1), "evaluate": self._executor("evaluate").script(1)}

    def probe(self) -> tuple[str, Path]:
        """Submit a job that examines a node; returns its id, and the file to which it writes its findings."""
        answer = submissions.folder(self.runs).absolute() / f".probe-{os.urandom(4).hex()}.json"
        with scrubbed():
            (job,) = self._submit(self._executor("evaluate", more={"time": "5"}), [Probe(str(answer))])
        return job.job_id, answer

    def submit(
        self, arrays: Sequence[Array], evaluated: Callable[[], Sequence[str]], on_submit: Callable[[Submission], None]
    ) -> None:
        """Submit each array, then an evaluator of the runs whose ids `evaluated` returns after that. Each submission is
        recorded at once, and passed to `on_submit`.

        UserError with SLURM's message where sbatch fails; the jobs that were submitted before it continue.
        """
        before = ""
        with scrubbed():
            for array in arrays:
                executor = self._executor("train", array.needs, before if array.depends_on_previous else "")
                work = [Training(str(job.run.path.absolute())) for job in array.jobs]
                runs = tuple(job.run.run_id for job in array.jobs)
                submission = self._submit_and_record(executor, "train", work, runs)
                before = submission.job
                on_submit(submission)
            if ids := tuple(evaluated()):
                evaluator = Evaluations(str(self.runs.absolute()), ids)
                on_submit(self._submit_and_record(self._executor("evaluate"), "evaluate", [evaluator], ids))

    def _submit_and_record(
        self, executor: "SubmititExecutor", kind: Kind, work: Sequence[Callable[[], None]], runs: tuple[str, ...]
    ) -> Submission:
        jobs = self._submit(executor, work)
        submission = Submission(
            job=jobs[0].job_id.partition("_")[0], kind=kind, runs=runs, code=self.code.name, submitted=utc()
        )
        try:
            submission.write(self.runs)
        except UserError:
            execute("scancel", submission.job)  # without a record, the job would belong to no run
            raise
        return submission

    @staticmethod
    def _submit(executor: "SubmititExecutor", work: Sequence[Callable[[], None]]) -> list[Any]:
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # submitit prints there what it also raises
                return executor.submit_array(work)
        except (FailedJobError, FailedSubmissionError) as error:
            complaints = (line.removeprefix("sbatch: error: ") for line in str(error).strip().splitlines())
            raise UserError(f"sbatch failed: {'; '.join(complaints)}") from None

    def _executor(
        self, kind: Kind, needs: Resources | None = None, after: str = "", more: Mapping[str, Value] = NO_OPTIONS
    ) -> "SubmititExecutor":
        options: dict[str, Value] = {"job_name": f"diffussm-{self.name}{'-evaluator' * (kind == 'evaluate')}"}
        options |= {**self.profile.options(kind, needs), **more}
        if after:
            options["dependency"] = ",".join(filter(None, [str(options.get("dependency", "")), f"afterany:{after}"]))
        cpus = options.get("cpus_per_task")
        return SubmititExecutor(
            folder=submissions.folder(self.runs).absolute(),
            python=f"{self.profile.python or shlex.quote(sys.executable)} -P",
            options=options,
            # since SLURM 22.05, srun ignores the batch script's --cpus-per-task
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


class SubmititExecutor(submitit.SlurmExecutor):
    """submitit's executor with any option of sbatch, without its own defaults, and with scripts that can be shown
    before submission."""

    def __init__(
        self, folder: Path, python: str, options: dict[str, Any], srun: list[str], setup: list[str], throttle: int
    ):
        if any(character in str(folder) for character in SPECIAL_IN_LOG_NAMES):
            raise UserError(
                f"--runs: {folder}: must not contain %, \\ or a line break, which are special in names of SLURM's logs"
            )
        super().__init__(folder, max_num_timeout=sys.maxsize, python=python)
        self._options, self._throttle_runs = options, throttle
        given = {name: value for name, value in options.items() if value != ""}
        self.update_parameters(
            **{name: int(given[name]) for name in SUBMITIT_OPTIONS if name in given},
            additional_parameters={name: value for name, value in given.items() if name not in SUBMITIT_OPTIONS},
            srun_args=srun,
            setup=setup,
        )

    @classmethod
    def affinity(cls) -> int:
        """Nonzero, so that scripts can be made where there is no sbatch; submission reports its absence."""
        return 1

    def script(self, count: int) -> str:
        """Return the script for an array of `count` jobs."""
        self._set_array_size(count)
        return self._make_submission_file_text(self._submitit_command_str, "")

    def _set_array_size(self, count: int) -> None:
        if count > 1:
            self.parameters |= {"map_count": count, "array_parallelism": self._throttle_runs or count}

    def _make_submission_file_text(self, command: str, uid: str) -> str:
        """Return the script of submitit without the options that it adds by itself."""
        kept = {name.replace("_", "-") for name, value in self._options.items() if value != ""}
        kept |= {"array", "output", "error", "open-mode"}
        lines = super()._make_submission_file_text(command, uid).splitlines()
        return "\n".join(line for line in lines if _option(line) in kept | {""}) + "\n"

    def _internal_process_submissions(self, delayed_submissions: list[Any]) -> list[Any]:
        """Submit the jobs as submitit does; its own method would create an array through another executor class."""
        if len(delayed_submissions) == 1:
            return super()._internal_process_submissions(delayed_submissions)
        self._set_array_size(len(delayed_submissions))
        folder = JobPaths.get_first_id_independent_folder(self.folder)
        folder.mkdir(parents=True, exist_ok=True)
        unique = os.urandom(4).hex()  # another launch may submit at the same time
        pickles = [folder / f".{unique}-{number}.pkl" for number, _ in enumerate(delayed_submissions)]
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
    """Return the name of the option that a line of a script sets; "" for other lines."""
    return line.removeprefix("#SBATCH --").partition("=")[0] if line.startswith("#SBATCH --") else ""
