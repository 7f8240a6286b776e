"""What a launch would do: each run with its cost and its state on disk. Reads run folders, writes nothing, no torch."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ablations.grid import Run
from diffussm import records
from diffussm.config import Request, request
from diffussm.cost.closed_form import Macs, forward_macs, parameters
from diffussm.data.catalogue import check_fit
from diffussm.errors import UserError
from diffussm.metrics.catalogue import evaluation_key, extractor_facts
from diffussm.rundir import RunDir


@dataclass(frozen=True)
class Planned:
    """A run, what is asked of it, what it costs and how far it is."""

    run: Run
    request: Request
    key: records.EvaluationKey
    parameters: int
    macs: Macs  # of one call on one image
    folder: RunDir
    state: str  # "done", "new", "step 320 of 640", "to evaluate", "failed (reason)", "unreachable (reason)"

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


def _planned(run: Run, folder: Path) -> Planned:
    config = run.config
    check_fit(config)
    key = evaluation_key(config)
    if "label_accuracy" in key.metrics and not extractor_facts(key.extractor).classifies:
        raise UserError(f"evaluation.metrics: label_accuracy needs a classifier, {key.extractor} is none")
    asked, run_dir = request(config), RunDir(folder / run.run_id)
    state = _state(run_dir, asked, key.digest)
    return Planned(run, asked, key, parameters(config), forward_macs(config), run_dir, state)


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
    if trained >= asked.steps:
        return "to evaluate"
    return f"step {trained} of {asked.steps}" if trained else "new"
