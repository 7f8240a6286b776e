"""What a launch would do: each run with its cost and its state on disk. Reads run folders, writes nothing, no torch."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ablations.grid.runs import Run
from ablations.status.states import RunState, state_of
from diffussm.config import Request, request
from diffussm.cost.closed_form import Macs, forward_macs, parameters
from diffussm.errors import UserError
from diffussm.metrics.key import evaluation_key
from diffussm.metrics.requirements import missing_requirement
from diffussm.run.heartbeat import Liveness
from diffussm.store import records
from diffussm.store.rundir import RunDir

MATCH_TOLERANCE = 0.03


@dataclass(frozen=True)
class ArmPlan:
    """What all seeds of an arm have in common."""

    request: Request
    key: records.EvaluationKey | None  # None where data is lacking
    parameters: int
    macs: Macs  # of one call on one image
    missing_requirement: str  # the data or weights without which it cannot run; "" if it can


@dataclass(frozen=True, eq=False)
class Planned:
    """A run on a base, what is asked of it, what it costs and how far it is."""

    base: str
    run: Run
    arm: ArmPlan
    folder: RunDir
    state: RunState
    steps: int  # the most that were ever asked of the run, this time included
    lost: tuple[int, ...] = ()  # milestones behind the newest checkpoint whose weights were not kept

    @property
    def request(self) -> Request:
        return self.arm.request

    @property
    def done(self) -> bool:
        return self.state.name == "done"

    @property
    def macs_per_step(self) -> int | None:
        return self.arm.macs.training_step(self.run.config.training.batch)

    @property
    def steps_left(self) -> int:
        return 0 if self.done else max(0, self.steps - self.state.step) + self.replay_steps

    @property
    def replay_steps(self) -> int:
        """What it costs to have the lost milestones: training from the start to the last of them again."""
        return max(self.lost, default=0)

    @property
    def evaluations_left(self) -> int:
        return self.state.evaluations - self.state.evaluated

    @property
    def status(self) -> str:
        """new, resumable, running, done, lacks data, unreachable; or failed, diverged, cancelled, stale."""
        if self.arm.missing_requirement:
            return "lacks data"
        if self.lost and self.state.name in ("pending", "stale"):
            return "unreachable"
        if self.state.name != "pending":
            return self.state.name
        return "resumable" if self.state.step else "new"

    @property
    def words(self) -> str:
        """The status with what there is to say about it."""
        s, more = self.state, ""
        match self.status:
            case "unreachable":
                replay = f"--replay trains {self.replay_steps} steps again"
                more = f"the weights of step {self.lost[0]} were not kept; {replay}"
            case "resumable" if s.step >= self.steps:
                more = f"{self.evaluations_left} evaluations left"
            case "resumable" | "running":
                more = f"step {s.step} of {self.steps}"
            case "failed" | "diverged":
                more = s.reason
        if self.steps > self.request.steps and not self.done:
            more += f"{', ' if more else ''}{self.steps} steps were asked before"
        return f"{self.status} ({more})" if more else self.status


def plan(base: str, runs: list[Run], folder: Path) -> list[Planned]:
    """Plan `runs` of base `base` in run folders below `folder`; UserError for what cannot work, before anything is
    written."""
    known = set(os.listdir(folder)) if folder.is_dir() else set()
    liveness = Liveness(by_mtime=True)
    arms: dict[str, ArmPlan] = {}
    out = []
    for run in runs:
        if run.arm.name not in arms:
            arms[run.arm.name] = _plan_arm(run)
        arm, run_dir = arms[run.arm.name], RunDir(folder / run.run_id)
        asked = arm.request
        if run.run_id not in known or arm.key is None:
            state = RunState(steps=asked.steps, evaluations=len(asked.milestones))
            out.append(Planned(base, run, arm, run_dir, state, asked.steps))
            continue
        state = state_of(run_dir, asked.steps, asked.milestones, arm.key.digest, liveness)
        try:
            steps = max([asked.steps, *(before.steps for before in run_dir.requests())])  # a job does all ever asked
            lost = () if state.name == "done" else tuple(run_dir.lost_milestones(asked))
            out.append(Planned(base, run, arm, run_dir, state, steps, lost))
        except UserError as damage:
            out.append(Planned(base, run, arm, run_dir, replace(state, name="failed", reason=str(damage)), asked.steps))
    return out


def _plan_arm(run: Run) -> ArmPlan:
    config = run.config
    missing = missing_requirement(config)
    key = None if missing else evaluation_key(config)
    return ArmPlan(request(config), key, parameters(config), forward_macs(config), missing)


def summary(planned: list[Planned]) -> str:
    """How many runs in what state: one line."""
    unique = {p.run.run_id: p for p in planned}.values()
    states = Counter(p.status for p in unique)
    return f"{len(unique)} runs: " + ", ".join(f"{count} {state}" for state, count in sorted(states.items()))


def broken_matches(matched: Sequence[str], planned: list[Planned]) -> list[str]:
    """A sentence for each quantity that the grid says is matched across arms and that differs by more than 3 %."""
    out = []
    for quantity in matched:
        costs = {p.run.arm.name: p.arm.parameters if quantity == "parameters" else p.arm.macs.total for p in planned}
        known = {arm: cost for arm, cost in costs.items() if cost is not None}
        unknown = [arm for arm in costs if arm not in known]
        if unknown:
            out.append(f"{quantity} are said to be matched, but those of {', '.join(unknown)} are unknown")
        if known and max(known.values()) > (1 + MATCH_TOLERANCE) * min(known.values()):
            most, least = max(known, key=known.__getitem__), min(known, key=known.__getitem__)
            apart = f"{most} has {known[most] / known[least] - 1:.1%} more than {least}"
            out.append(f"{quantity} are said to be matched, but {apart} ({known[most]:,} and {known[least]:,})")
    return out
