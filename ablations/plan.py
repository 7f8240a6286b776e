"""What a launch would do: each run with its cost and its state on disk. Reads run folders, writes nothing, no torch."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ablations.grid import Run
from diffussm import records
from diffussm.config import Request, request
from diffussm.cost.closed_form import Macs, forward_macs, parameters
from diffussm.data.catalogue import check_fit, config_lacks
from diffussm.metrics.catalogue import evaluation_key
from diffussm.rundir import RunDir

MATCH_TOLERANCE = 0.03


@dataclass(frozen=True)
class Planned:
    """A run, what is asked of it, what it costs and how far it is."""

    run: Run
    request: Request
    key: records.EvaluationKey | None  # None where data is lacking
    parameters: int
    macs: Macs  # of one call on one image
    folder: RunDir
    state: str  # "done", "new", "step 320 of 640", "to evaluate", "failed (...)", "unreachable (...)", "lacks data"
    lacks: str = ""  # what data is lacking

    @property
    def done(self) -> bool:
        return self.state == "done"


def plan(runs: list[Run], folder: Path) -> list[Planned]:
    """Plan `runs` in run folders below `folder`; UserError for what cannot work, before anything is written."""
    return [_planned(run, folder) for run in runs]


def summary(planned: list[Planned]) -> str:
    """How many runs, how many of them done: one line."""
    unique = {p.run.run_id: p for p in planned}.values()
    states = Counter("done" if p.done else "to do" for p in unique)
    return f"{len(unique)} runs: " + ", ".join(f"{count} {state}" for state, count in sorted(states.items()))


def broken_matches(matched: Sequence[str], planned: list[Planned]) -> list[str]:
    """A sentence for each quantity that the grid says is matched across arms and that differs by more than 3 %."""
    out = []
    for quantity in matched:
        costs = {p.run.arm.name: p.parameters if quantity == "parameters" else p.macs.total for p in planned}
        known = {arm: cost for arm, cost in costs.items() if cost is not None}
        unknown = [arm for arm in costs if arm not in known]
        if unknown:
            out.append(f"{quantity} are said to be matched, but those of {', '.join(unknown)} are unknown")
        if known and max(known.values()) > (1 + MATCH_TOLERANCE) * min(known.values()):
            most, least = max(known, key=known.__getitem__), min(known, key=known.__getitem__)
            apart = f"{most} has {known[most] / known[least] - 1:.1%} more than {least}"
            out.append(f"{quantity} are said to be matched, but {apart} ({known[most]:,} and {known[least]:,})")
    return out


def _planned(run: Run, folder: Path) -> Planned:
    config = run.config
    check_fit(config)
    asked, run_dir, costs = request(config), RunDir(folder / run.run_id), (parameters(config), forward_macs(config))
    if lacks := config_lacks(config):
        return Planned(run, asked, None, *costs, run_dir, "lacks data", lacks)
    key = evaluation_key(config)
    return Planned(run, asked, key, *costs, run_dir, _state(run_dir, asked, key.digest))


def _state(folder: RunDir, asked: Request, key: str) -> str:
    missing = [step for step in asked.milestones if records.read(folder.record(step, key)) is None]
    if not missing:
        return "done"
    trained = folder.trained_steps()
    if lost := folder.lost_milestones(asked):
        return f"unreachable (training is at step {trained}; the weights of step {lost[0]} were not kept)"
    said = folder.state()
    if said.get("phase") == "failed":
        return f"failed ({said['reason']})"
    steps = max([asked.steps, *(before.steps for before in folder.requests())])  # a job does all that was ever asked
    if trained >= steps:
        return "to evaluate"
    before = f" ({steps} steps were asked before)" if steps > asked.steps else ""
    return (f"step {trained} of {steps}" if trained else "new") + before
