"""What a launch would do: each run with its cost and its state on disk. Reads run folders, writes nothing, no torch."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ablations.grid.runs import Run
from ablations.grid.selection import is_selected
from ablations.status.states import RunState, state_of
from diffussm.config import Request, dropped_milestones
from diffussm.cost.closed_form import Macs, forward_macs, parameters
from diffussm.data.lookup.facts import is_provisional, missing_data
from diffussm.errors import UserError
from diffussm.metrics.data_digests import baked_in, remarks
from diffussm.metrics.key import digests_of, evaluation_key
from diffussm.metrics.requirements import missing_requirement
from diffussm.run.heartbeat import Liveness
from diffussm.run.tasks import lost_milestones
from diffussm.store import records
from diffussm.store.rundir import RunDir
from diffussm.tables import plural

MATCH_TOLERANCE = 0.03


@dataclass(frozen=True)
class ArmSpec:
    """What all seeds of an arm have in common."""

    request: Request
    key: records.EvaluationKey | None  # None where a requirement is missing
    parameters: int
    macs: Macs  # of one call on one image
    missing_requirement: str  # the data or files without which it cannot run; "" if it can
    has_data: bool  # whether its data are there
    provisional: bool  # whether run ids lack the digest of data that are not there
    warnings: tuple[str, ...] = ()  # of what was baked into the data, of a reference or an extractor of other data

    @property
    def digests(self) -> records.KeyDigests:
        """The digests by which its records are found."""
        assert self.key is not None  # no requirement is missing
        return digests_of(self.key, self.request.evaluation)


@dataclass(frozen=True, eq=False)
class PlannedRun:
    """A run on a base: what is requested of it, what it costs, and its state."""

    base: str
    run: Run
    spec: ArmSpec
    run_dir: RunDir
    state: RunState
    steps: int  # of the longest request of the run, this one included
    lost: tuple[int, ...] = ()  # milestones before the newest checkpoint whose weights were not kept
    damaged: tuple[int, ...] = ()  # those whose weights were damaged and set aside: a replay makes them again

    @property
    def request(self) -> Request:
        return self.spec.request

    @property
    def done(self) -> bool:
        return self.state.name == "done"

    @property
    def macs_per_step(self) -> int | None:
        return self.spec.macs.training_step(self.run.config.training.batch)

    @property
    def remaining_steps(self) -> int:
        return 0 if self.done else max(0, self.steps - self.state.step) + self.replay_steps

    @property
    def replay_steps(self) -> int:
        """Return the steps of a replay: training from the start to the last missing milestone again."""
        return max((*self.lost, *self.damaged), default=0)

    @property
    def remaining_evaluations(self) -> int:
        return self.state.evaluations - self.state.evaluated

    @property
    def status(self) -> str:
        """Return the state shown in the plan: new, resumable, running, done, lacks data, cannot be measured (a file of
        the evaluation is missing), unreachable (the weights of a milestone were not kept), failed, diverged, cancelled
        or stale."""
        if self.spec.missing_requirement:
            return "cannot be measured" if self.spec.has_data else "lacks data"
        if self.lost and self.state.name in ("pending", "stale"):
            return "unreachable"
        if self.state.name != "pending":
            return self.state.name
        return "resumable" if self.state.step else "new"

    @property
    def description(self) -> str:
        """Return the status with its details."""
        s, more = self.state, ""
        match self.status:
            case "unreachable":
                replay = f"--replay trains {self.replay_steps} steps again"
                more = f"the weights of step {self.lost[0]} were not kept; {replay}"
            case "resumable" if s.step >= self.steps:
                more = f"{plural(self.remaining_evaluations, 'evaluation')} left"
            case "resumable" | "running":
                more = f"step {s.step} of {self.steps}"
            case "failed" | "diverged":
                more = s.reason
        if self.damaged:
            made_again = ", ".join(map(str, self.damaged))
            more += f"{', ' if more else ''}damaged weights of step {made_again} are made again"
        if self.steps > self.request.steps and not self.done:
            more += f"{', ' if more else ''}{self.steps} steps were requested before"
        return f"{self.status} ({more})" if more else self.status


def plan(base: str, grid_runs: list[Run], runs: Path) -> list[PlannedRun]:
    """Plan the runs `grid_runs` of base `base`, whose run folders are in `runs`. Nothing is written.

    Raise UserError if a run cannot work.
    """
    known = set(os.listdir(runs)) if runs.is_dir() else set()
    liveness = Liveness(by_mtime=True)
    specs: dict[str, ArmSpec] = {}
    out = []
    for run in grid_runs:
        if run.arm.name not in specs:
            specs[run.arm.name] = _spec_of(run)
        spec, run_dir = specs[run.arm.name], RunDir(runs / run.run_id)
        requested = spec.request
        if run.run_id not in known or spec.key is None:
            state = RunState(steps=requested.steps, evaluations=len(requested.milestones))
            out.append(PlannedRun(base, run, spec, run_dir, state, requested.steps))
            continue
        state = state_of(run_dir, requested.steps, requested.milestones, spec.digests, liveness)
        try:
            steps = max([requested.steps, *(before.steps for before in run_dir.requests())])  # it trains to the longest
            is_done = state.name == "done"
            lost: tuple[int, ...] = () if is_done else tuple(lost_milestones(run_dir, requested, spec.digests))
            damaged: tuple[int, ...] = () if is_done else tuple(run_dir.lost_milestones(requested, damaged=True))
            out.append(PlannedRun(base, run, spec, run_dir, state, steps, lost, damaged))
        except UserError as damage:
            out.append(
                PlannedRun(base, run, spec, run_dir, replace(state, name="failed", reason=str(damage)), requested.steps)
            )
    return out


def _spec_of(run: Run) -> ArmSpec:
    config = run.config
    missing = missing_requirement(config)
    return ArmSpec(
        request=Request.from_config(config),
        key=None if missing else evaluation_key(config),
        parameters=parameters(config),
        macs=forward_macs(config),
        missing_requirement=missing,
        has_data=not missing_data(config),
        provisional=is_provisional(config),
        warnings=(*dropped_milestones(config), *(baked_in(config) if missing else remarks(config))),
    )


def select(planned: Sequence[PlannedRun], only: Sequence[str]) -> list[PlannedRun]:
    """Return the runs that `--only` selects."""
    return [p for p in planned if is_selected(only, p.run.arm.name, p.run.arm.levels, p.run.run_id)]


def by_run(planned: Sequence[PlannedRun]) -> dict[str, list[PlannedRun]]:
    """Return the arms of each run, by run id: arms may share a run."""
    out: dict[str, list[PlannedRun]] = {}
    for p in planned:
        out.setdefault(p.run.run_id, []).append(p)
    return out


def unfinished(planned: Sequence[PlannedRun]) -> dict[str, list[PlannedRun]]:
    """Return the arms of each run that is not done, by run id."""
    return by_run([p for p in planned if not p.done])


def summary(planned: list[PlannedRun]) -> str:
    """Return the number of runs in each state, in one line."""
    unique = {p.run.run_id: p for p in planned}.values()
    states = Counter(p.status for p in unique)
    return f"{plural(len(unique), 'run')}: " + ", ".join(f"{count} {state}" for state, count in sorted(states.items()))


def broken_matches(matched: Sequence[str], planned: list[PlannedRun]) -> list[str]:
    """Return a message for each quantity that is declared matched and differs by more than 3 % across arms."""
    out = []
    for quantity in matched:
        costs = {p.run.arm.name: p.spec.parameters if quantity == "parameters" else p.spec.macs.total for p in planned}
        known = {arm: cost for arm, cost in costs.items() if cost is not None}
        unknown = [arm for arm in costs if arm not in known]
        if unknown:
            out.append(f"{quantity} are declared matched, but those of {', '.join(unknown)} are unknown")
        if known and max(known.values()) > (1 + MATCH_TOLERANCE) * min(known.values()):
            most, least = max(known, key=known.__getitem__), min(known, key=known.__getitem__)
            difference = f"{most} has {known[most] / known[least] - 1:.1%} more than {least}"
            out.append(f"{quantity} are declared matched, but {difference} ({known[most]:,} and {known[least]:,})")
    return out
