"""A launch on a cluster: which runs become jobs, which are in somebody's hands already, and what it will cost."""

import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations import table
from ablations.options import RUNS
from ablations.plan import snapshot
from ablations.plan.estimate import Estimate
from ablations.plan.job import Job
from ablations.plan.plan import Planned
from ablations.slurm import commands
from ablations.slurm.arrays import Array, arrays, chained_seconds
from ablations.slurm.commands import Site
from ablations.slurm.environment import allocation
from ablations.slurm.estimate import ClusterEstimates
from ablations.slurm.profile import Profile
from ablations.slurm.scheduler import Slurm
from ablations.slurm.submissions import Submission
from diffussm.config import is_external
from diffussm.errors import UserError
from diffussm.run.heartbeat import Liveness
from diffussm.run.tasks import failed_for_good, given_up
from diffussm.store.rundir import RunDir

if TYPE_CHECKING:
    from ablations.plan.request import Asked
    from ablations.slurm.executor import Launch

PROFILE = "a100"


@dataclass(frozen=True)
class Submitting:
    """What a launch of the runs `planned` would submit with a profile."""

    asked: "Asked"
    planned: Sequence[Planned]
    profile: Profile
    site: Site
    estimates: ClusterEstimates
    in_hand: dict[str, str] = field(default_factory=dict)  # run id -> who has it
    stopped: dict[str, str] = field(default_factory=dict)  # run id -> why nobody is to have it
    trained: list[Job] = field(default_factory=list)
    unmeasured: list[str] = field(default_factory=list)  # ids

    @classmethod
    def of(cls, asked: "Asked", planned: Sequence[Planned], profile: Profile) -> "Submitting":
        made = cls(asked, planned, profile, Site.here(), ClusterEstimates(profile))
        made._refuse_small_batches()
        made._sort()
        return made

    def _refuse_small_batches(self) -> None:
        for p in self.planned:
            tasks, batch = self.profile.tasks(p.run.arm.resources), p.run.config.training.batch
            if batch < tasks:
                raise UserError(f"{p.run.run_id}: training.batch = {batch}: of {tasks} tasks, each needs a sample")

    def refuse(self) -> None:
        """UserError where nothing can be submitted, before anything is written."""
        if not commands.is_here():
            raise UserError("--executor slurm: there is no sbatch here; launch where the cluster's jobs are submitted")
        if not self.site.answers:
            raise UserError("--executor slurm: scontrol show config: no answer; is the cluster up?")
        self.launch().examples()

    def _sort(self) -> None:
        """Each run that is not done is in somebody's hands, or is stopped, or becomes a job."""
        slurm, liveness = Slurm(self.asked.runs), Liveness(by_mtime=True)
        for run_id, arms in self.unfinished().items():
            try:
                self._place(run_id, arms, slurm, liveness)
            except UserError as damage:  # one damaged folder is not the others' matter
                self.stopped[run_id] = str(damage)

    def _place(self, run_id: str, arms: Sequence[Planned], slurm: Slurm, liveness: Liveness) -> None:
        run = arms[0].folder
        trains = any(run.trained_steps() < p.steps or p.lost for p in arms)
        if reason := self._why_nothing(run):
            self.stopped[run_id] = reason
            return
        if trains and (failed := failed_for_good(run, run, self.code.name)):
            self.stopped[run_id] = f"training: {failed['reason']}"
        elif trains and slurm.has(run_id, "train"):
            self.in_hand[run_id] = "a job in the queue"
        elif trains and liveness.alive(run):
            self.in_hand[run_id] = "another launch"
        elif trains:
            seconds = max(math.inf if (s := self.estimates.of(p).training) is None else s for p in arms)
            self.trained.append(Job(run, seconds, arms[0].run.arm.resources))
        self.unmeasured.append(run_id)

    def _why_nothing(self, run: RunDir) -> str:
        """Why no job is to have the run; "" where one may."""
        if not run.path.exists():
            return ""
        return "cancelled by manage.py cancel" if run.cancelled else given_up(run, self.code.name)

    def unfinished(self) -> dict[str, list[Planned]]:
        out: dict[str, list[Planned]] = {}
        for p in self.planned:
            if not p.done:
                out.setdefault(p.run.run_id, []).append(p)
        return out

    def evaluated(self) -> list[str]:
        """Ids of the runs for which an evaluator has to be submitted, as things are now."""
        slurm = Slurm(self.asked.runs)
        return [run_id for run_id in self.unmeasured if not slurm.will_be_evaluated(run_id)]

    @cached_property
    def arrays(self) -> list[Array]:
        return arrays(self.trained, self.site.most_in_array, self.profile.throttle)

    @cached_property
    def mixers(self) -> list[str]:
        return sorted({m for p in self.planned if is_external(m := p.run.config.model.mixer)})

    @cached_property
    def code(self) -> Path:
        """Where the copy of the code that the jobs run lies, or will lie."""
        return snapshot.where(self.asked.runs, self.mixers)

    def launch(self) -> "Launch":
        from ablations.slurm.executor import Launch

        return Launch(self.asked.runs, self.code, self.asked.name, self.profile)

    def scripts(self) -> list[str]:
        return self.launch().scripts(self.arrays, self.evaluated())

    def totals(self) -> dict[str, Any]:
        """What is submitted and what it costs, for programs; hours and seconds are None where a run's MACs are
        unknown."""
        estimated = {p: self.estimates.of(p) for p in self.planned}
        seconds, tail = chained_seconds(self.arrays, self.profile.throttle)
        known = math.isfinite(seconds)
        needs = [array.needs for array in self.arrays]
        macs = {job.run.run_id: 0 for job in self.trained}
        for p in self.planned:
            if p.run.run_id in macs and p.macs_per_step:
                macs[p.run.run_id] = max(macs[p.run.run_id], p.macs_per_step * p.steps_left)
        return {
            "training_macs_left": sum(macs.values()),
            "jobs": len(self.trained),
            "arrays": [len(array.jobs) for array in self.arrays],
            "chained": any(array.waits for array in self.arrays),
            "evaluator": bool(self.evaluated()),
            "gpus_per_job": sorted({self.profile.gpus(need) for need in needs}),
            "training_gpu_hours": self._gpu_hours() if known else None,
            "evaluation_gpu_hours": self._evaluation_hours(estimated) if known else None,
            "seconds_left": seconds if known else None,
            "seconds_lost_by_chaining": tail if known else None,
            "throttle": self.profile.throttle,
            "most_in_array": self.site.most_in_array,
            "estimate": self.estimates.stand_on(estimated),
        }

    def _gpu_hours(self) -> float:
        return sum(job.seconds * self.profile.gpus(job.needs) for job in self.trained) / 3600

    def _evaluation_hours(self, estimated: Mapping[Planned, Estimate]) -> float:
        """Of what is measured in different ways, each counts."""
        measured = {(p.run.run_id, p.arm.key): e.evaluation or 0.0 for p, e in estimated.items() if not p.done}
        on_gpu = any(self.estimates.gpus(p) for p in self.planned)
        return sum(measured.values()) / 3600 * on_gpu

    def words(self) -> str:
        """The totals for people."""
        t = self.totals()
        if not t["jobs"] and not t["evaluator"]:
            return "Nothing to submit."
        each = ", ".join(map(str, t["arrays"])) or "none"
        lines = [f"Trainings: {t['jobs']} in arrays of {each} (at most {t['most_in_array']} here)"]
        if not self.site.answers:
            lines[0] += ", as SLURM's default has it: no cluster answers"
        lines[0] += f"; {table.big(t['training_macs_left'])} MACs."
        if t["evaluator"]:
            lines.append("Evaluations: one more job, which lasts as long as milestones may land.")
        if t["seconds_left"] is None:
            lines.append("Time: unknown, as the MACs of some mixers are.")
            return "\n".join(lines)
        if any(t["gpus_per_job"]):
            evaluation = f"{t['evaluation_gpu_hours']:,.1f} of evaluation"
            lines.append(f"GPU-hours, estimated: {t['training_gpu_hours']:,.1f} of training, {evaluation}.")
        limit = f"at most {t['throttle']} at a time" if t["throttle"] else "if all start at once"
        lines.append(f"Time, estimated: {table.duration(t['seconds_left'])} {limit}, but for waiting in the queue.")
        if t["chained"]:
            lost = table.duration(t["seconds_lost_by_chaining"])
            lines.append(
                f"Of that {lost}, as a throttle holds in one array only: each waits for the last run before it."
            )
        lines.append(f"The estimate is {t['estimate'].removesuffix('; nothing was measured here (--calibrate does)')}.")
        return "\n".join(lines)


def submit(folder: Path, submitting: Submitting) -> int:
    """Submit, say what, and return: the jobs need this process no more. The exit code is 1 where runs are stopped."""
    asked, runs = submitting.asked, len({p.run.run_id for p in submitting.planned})
    if job := allocation():
        print(f"warning: this is inside job {job}; jobs get an environment without its variables", file=sys.stderr)
    where = "" if folder == RUNS else f" --runs {shlex.quote(str(folder))}"
    print(f"{asked.name} on {', '.join(asked.bases)}: {runs} runs, {runs - len(submitting.unfinished())} done before.")

    def told(submission: Submission) -> None:
        count = len(submission.runs)
        what = f"{count} training{'s' * (count > 1)}" if submission.kind == "train" else f"evaluator of {count} runs"
        print(f"Submitted job {submission.job}: {what}.", flush=True)

    if submitting.trained or submitting.unmeasured:
        with snapshot.taken(folder, submitting.mixers):
            submitting.launch().submit(submitting.arrays, submitting.evaluated, told)
    for run_id, who in submitting.in_hand.items():
        print(f"{run_id}: left to {who}.")
    for run_id, why in submitting.stopped.items():
        print(f"{run_id}: not submitted: {why}", file=sys.stderr)
    if submitting.stopped:
        retry = f"python ablations/manage.py retry --failed --cancelled --grid {asked.name}{where}"
        print(f"To have those tried again: {retry}", file=sys.stderr)
    if not submitting.stopped or submitting.unmeasured:
        print(f"Watch: python ablations/manage.py watch --grid {asked.name}{where}")
        print(f"Figures, now and later: python reports/make_figures.py --grid {asked.name}{where}")
    return 1 if submitting.stopped else 0
