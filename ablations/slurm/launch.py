"""A launch on a cluster: which runs become jobs, which others work on already, and what it costs."""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.gpu_memory import GpuMemory
from ablations.options import script
from ablations.plan import snapshot
from ablations.plan.estimate import NOT_MEASURED, Estimate
from ablations.plan.job import Job
from ablations.plan.plan import PlannedRun, unfinished
from ablations.slurm import commands
from ablations.slurm.arrays import Array, arrays, chained_seconds
from ablations.slurm.commands import ClusterConfig
from ablations.slurm.environment import allocation
from ablations.slurm.estimate import ClusterEstimates
from ablations.slurm.profile import Profile
from ablations.slurm.scheduler import Slurm
from ablations.slurm.submissions import Submission
from diffussm import tables
from diffussm.config import is_external
from diffussm.errors import UserError
from diffussm.run.heartbeat import Liveness
from diffussm.run.tasks import permanent_failure, reason_to_give_up
from diffussm.store.rundir import RunDir

if TYPE_CHECKING:
    from ablations.plan.request import GridRequest
    from ablations.slurm.executor import SlurmLauncher

PROFILE = "a100"


@dataclass(frozen=True)
class SubmissionPlan:
    """The jobs that a launch of the runs `planned` submits with a profile."""

    request: "GridRequest"
    planned: Sequence[PlannedRun]
    profile: Profile
    cluster: ClusterConfig
    estimates: ClusterEstimates
    active: dict[str, str] = field(default_factory=dict)  # run id -> what works on it already
    refused: dict[str, str] = field(default_factory=dict)  # run id -> why it is not submitted
    trainings: list[Job] = field(default_factory=list)
    run_ids_to_evaluate: list[str] = field(default_factory=list)
    damaged: list[UserError] = field(default_factory=list)  # submissions whose runs are unknown

    @classmethod
    def create(cls, request: "GridRequest", planned: Sequence[PlannedRun], profile: Profile) -> "SubmissionPlan":
        plan = cls(request, planned, profile, ClusterConfig.current(), ClusterEstimates(profile))
        plan._check_batches()
        plan._assign_runs()
        return plan

    def _check_batches(self) -> None:
        """Raise UserError if a batch has fewer samples than a training has tasks."""
        for p in self.planned:
            tasks, batch = self.profile.tasks(p.run.arm.resources), p.run.config.training.batch
            if batch < tasks:
                raise UserError(
                    f"{p.run.run_id}: training.batch = {batch}: smaller than the number of its tasks, {tasks}; use "
                    "fewer tasks or a larger batch"
                )

    def check_cluster(self) -> None:
        """Raise UserError if nothing can be submitted; called before anything is written."""
        if not commands.has_sbatch():
            raise UserError("--executor slurm: there is no sbatch here; launch from a login node of the cluster")
        if not self.cluster.is_reachable:
            raise UserError(
                "--executor slurm: `scontrol show config` failed; check that slurmctld is reachable from here"
            )
        if self.damaged:
            raise self.damaged[0]
        self.launcher().examples()

    def _assign_runs(self) -> None:
        """Sort each run that is not done: it is active already, or refused, or becomes a job."""
        slurm, liveness = Slurm(self.request.runs), Liveness(by_mtime=True)
        self.damaged.extend(slurm.damaged)
        for run_id, arms in unfinished(self.planned).items():
            try:
                self._assign(run_id, arms, slurm, liveness)
            except UserError as damage:  # a damaged folder does not affect other runs
                self.refused[run_id] = str(damage)

    def _assign(self, run_id: str, arms: Sequence[PlannedRun], slurm: Slurm, liveness: Liveness) -> None:
        run = arms[0].run_dir
        trains = any(run.trained_steps() < p.steps or p.lost or p.damaged for p in arms)
        if reason := self._reason_to_refuse(run):
            self.refused[run_id] = reason
            return
        if trains and (failed := permanent_failure(run, run, self.code.name)):
            self.refused[run_id] = f"training: {failed.reason}"
        elif trains and slurm.has_job(run_id, "train"):
            self.active[run_id] = "a job in the queue"
        elif trains and liveness.is_alive(run):
            self.active[run_id] = "another launch"
        elif trains:
            seconds = max(math.inf if (s := self.estimates.estimate(p).training) is None else s for p in arms)
            self.trainings.append(Job(run, seconds, arms[0].run.arm.resources))
        self.run_ids_to_evaluate.append(run_id)

    def _reason_to_refuse(self, run: RunDir) -> str:
        """Return why no job may work on the run; "" if one may."""
        if not run.path.exists():
            return ""
        return "cancelled by manage.py cancel" if run.cancelled else reason_to_give_up(run, self.code.name)

    def run_ids_without_evaluator(self) -> list[str]:
        """Return the ids of the runs for which an evaluator has to be submitted at this moment."""
        slurm = Slurm(self.request.runs)
        return [run_id for run_id in self.run_ids_to_evaluate if not slurm.has_evaluator(run_id)]

    @cached_property
    def memory(self) -> GpuMemory:
        """What the trainings take of a GPU's memory; a task uses one."""

        def processes(p: PlannedRun) -> int:
            needs = p.run.arm.resources
            return min(self.profile.gpus(needs), self.profile.tasks(needs))

        return GpuMemory.of(self.planned, processes, self.profile.gpu_memory_gb or None, self.request.step_settings)

    @cached_property
    def arrays(self) -> list[Array]:
        return arrays(self.trainings, self.cluster.max_array_size, self.profile.throttle)

    @cached_property
    def mixers(self) -> list[str]:
        return sorted({m for p in self.planned if is_external(m := p.run.config.model.mixer)})

    @cached_property
    def code(self) -> Path:
        """The folder of the copy of the code that the jobs run, whether it exists yet or not."""
        return snapshot.snapshot_path(self.request.runs, self.mixers)

    def launcher(self) -> "SlurmLauncher":
        from ablations.slurm.executor import SlurmLauncher

        return SlurmLauncher(self.request.runs, self.code, self.request.name, self.profile)

    def scripts(self) -> list[str]:
        return self.launcher().scripts(self.arrays, self.run_ids_without_evaluator())

    def totals(self) -> dict[str, Any]:
        """Return what is submitted and what it costs, for JSON; hours and seconds are None if the MACs of a run are
        unknown."""
        estimated = {p: self.estimates.estimate(p) for p in self.planned}
        seconds, tail = chained_seconds(self.arrays, self.profile.throttle)
        known = math.isfinite(seconds)
        needs = [array.needs for array in self.arrays]
        macs = {job.run.run_id: 0 for job in self.trainings}
        for p in self.planned:
            if p.run.run_id in macs and p.macs_per_step:
                macs[p.run.run_id] = max(macs[p.run.run_id], p.macs_per_step * p.remaining_steps)
        return {
            "training_macs_left": sum(macs.values()),
            "jobs": len(self.trainings),
            "arrays": [len(array.jobs) for array in self.arrays],
            "chained": any(array.depends_on_previous for array in self.arrays),
            "evaluator": bool(self.run_ids_without_evaluator()),
            "seconds_per_evaluation": self._longest_evaluation(estimated),
            "gpus_per_job": sorted({self.profile.gpus(need) for need in needs}),
            "training_gpu_hours": self._gpu_hours() if known else None,
            "evaluation_gpu_hours": self._evaluation_hours(estimated) if known else None,
            "seconds_left": seconds if known else None,
            "seconds_lost_by_chaining": tail if known else None,
            "throttle": self.profile.throttle,
            "most_in_array": self.cluster.max_array_size,
            "estimate": self.estimates.basis_of(estimated),
        }

    def _gpu_hours(self) -> float:
        return sum(job.seconds * self.profile.gpus(job.needs) for job in self.trainings) / 3600

    def _evaluator_shape(self) -> str:
        gpus, tasks = self.profile.gpus(kind="evaluate"), self.profile.tasks(kind="evaluate")
        return (
            f" of {tables.plural(gpus, 'GPU')}" if gpus else f" of {tables.plural(tasks, 'task')}" if tasks > 1 else ""
        )

    @property
    def _evaluator_gpus(self) -> int:
        return max(1, self.profile.gpus(kind="evaluate"))

    def _longest_evaluation(self, estimated: Mapping[PlannedRun, Estimate]) -> float:
        """Return the seconds of the evaluation of one milestone, of the arm where it takes longest."""
        return max(
            (e.evaluation / p.remaining_evaluations for p, e in estimated.items() if e.evaluation),
            default=0.0,
        )

    def _evaluation_hours(self, estimated: Mapping[PlannedRun, Estimate]) -> float:
        """Return the GPU-hours of evaluation; a run that is evaluated in several ways counts once for each."""
        measured = {(p.run.run_id, p.spec.key): e.evaluation or 0.0 for p, e in estimated.items() if not p.done}
        on_gpu = any(self.estimates.gpus(p) for p in self.planned)
        return sum(measured.values()) / 3600 * self._evaluator_gpus * on_gpu

    def summary(self) -> str:
        """Return the totals as text."""
        t = self.totals()
        if not t["jobs"] and not t["evaluator"]:
            return "Nothing to submit."
        each = ", ".join(map(str, t["arrays"])) or "none"
        lines = [f"Trainings: {t['jobs']}, in arrays of {each}; {tables.format_count(t['training_macs_left'])} MACs."]
        default = "" if self.cluster.is_reachable else " (SLURM's default, because no cluster responds)"
        lines[0] += f" Array limit: {t['most_in_array']}{default}."
        if t["evaluator"]:
            seconds = t["seconds_per_evaluation"]
            longest = f"; a milestone takes {tables.format_duration(seconds)} at most" if seconds else ""
            lines.append(
                f"Evaluations: one more job{self._evaluator_shape()}, which runs as long as milestones are still to "
                f"come{longest}."
            )
        if t["seconds_left"] is None:
            lines.append("Time: unknown, because the MACs of some mixers are unknown.")
            return "\n".join(lines)
        if any(t["gpus_per_job"]):
            evaluation = f"{t['evaluation_gpu_hours']:,.1f} of evaluation"
            lines.append(f"GPU-hours, estimated: {t['training_gpu_hours']:,.1f} of training, {evaluation}.")
        limit = f"at most {t['throttle']} at a time" if t["throttle"] else "if all start at once"
        lines.append(
            f"Time, estimated: {tables.format_duration(t['seconds_left'])} {limit}, without waiting in the queue."
        )
        if t["chained"]:
            lost = tables.format_duration(t["seconds_lost_by_chaining"])
            lines.append(
                f"Of that, {lost} are lost because a throttle applies within one array only: "
                "each array waits for the last run of the previous one."
            )
        lines.append(f"Estimate: {t['estimate'].removesuffix(NOT_MEASURED)}.")
        return "\n".join(lines)


def submit(plan: SubmissionPlan) -> int:
    """Submit the jobs, print what was submitted, and return the exit code: 1 where runs were refused."""
    request, runs = plan.request, len({p.run.run_id for p in plan.planned})
    if job := allocation():
        print(f"warning: this is inside job {job}; new jobs do not inherit its SLURM variables", file=sys.stderr)
    on, done = request.base_names, runs - len(unfinished(plan.planned))
    print(f"{request.name} on {on}: {tables.plural(runs, 'run')}, {done} done before.")

    def on_submit(submission: Submission) -> None:
        count = len(submission.runs)
        trains = submission.kind == "train"
        what = tables.plural(count, "training") if trains else f"evaluator of {tables.plural(count, 'run')}"
        print(f"Submitted job {submission.job}: {what}.", flush=True)

    if plan.trainings or plan.run_ids_to_evaluate:
        with snapshot.code_snapshot(request.runs, plan.mixers):
            plan.launcher().submit(plan.arrays, plan.run_ids_without_evaluator, on_submit)
    for run_id, worker in plan.active.items():
        print(f"{run_id}: not submitted: {worker} works on it.")
    for run_id, reason in plan.refused.items():
        print(f"{run_id}: not submitted: {reason}", file=sys.stderr)
    if plan.refused:
        retry = f"{script('ablations/manage.py')} retry --failed --cancelled {request.selector}"
        print(f"To retry these runs: {retry}", file=sys.stderr)
    if not plan.refused or plan.run_ids_to_evaluate:
        print(f"Watch: {script('ablations/manage.py')} watch {request.selector}")
        print(f"Figures, now and later: {script('reports/make_figures.py')} {request.selector}")
    return 1 if plan.refused else 0
