"""What is left to do for a run, read from its folder: a training, and evaluations of milestones. No torch."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from diffussm.config import Request
from diffussm.metrics.key import evaluation_key
from diffussm.store import records
from diffussm.store.rundir import RunDir
from diffussm.store.state import State
from diffussm.store.workdir import WorkDir

Task = Literal["train", "evaluate"]


@dataclass(frozen=True)
class Work:
    """A training as far as the run's requests ask, or the evaluation of one milestone under one key."""

    run: Path
    task: Task
    step: int = 0
    request: str = ""  # digest
    key: str = ""  # digest

    @property
    def folder(self) -> WorkDir:
        run = RunDir(self.run)
        return run if self.task == "train" else run.evaluation(self.step, self.key)

    def __str__(self) -> str:
        return "training" if self.task == "train" else f"evaluation of step {self.step}"


def left(run: RunDir) -> list[Work]:
    """All that could be started now: the training, where steps or weights are missing, and what can be evaluated."""
    requests = run.requests()
    out = [Work(run.path, "train")] if steps_to_train(run, requests) or replays(run, requests) else []
    seen: set[tuple[int, str]] = set()
    for asked in requests:
        key = key_of(run.path, asked)
        for step in missing(run, asked, key):
            if (step, key) not in seen and run.weights(step, asked.evaluation.weights).exists():
                seen.add((step, key))
                out.append(Work(run.path, "evaluate", step, asked.digest, key))
    return out


def is_done(run: RunDir) -> bool:
    """Whether every record that was asked for is there."""
    return all(next(missing(run, asked, key_of(run.path, asked)), None) is None for asked in run.requests())


def missing(run: RunDir, asked: Request, key: str) -> Iterator[int]:
    """Milestones of the request that have no valid record."""
    return (step for step in asked.milestones if records.read(run.record(step, key)) is None)


def steps_to_train(run: RunDir, requests: list[Request]) -> int:
    """Steps between the newest checkpoint and the longest request."""
    return max(0, max((asked.steps for asked in requests), default=0) - run.trained_steps())


def replays(run: RunDir, requests: list[Request]) -> dict[int, set[str]]:
    """Milestones that are lost and may be had by a replay, with the kinds of weights (ema | raw)."""
    out: dict[int, set[str]] = {}
    for asked in requests:
        if run.may_replay(asked):
            for step in run.lost_milestones(asked):
                out.setdefault(step, set()).add(asked.evaluation.weights)
    return out


def failure(run: RunDir, folder: WorkDir) -> State | None:
    """The state of a training or evaluation of the run that failed last, unless it was ordered to be retried."""
    said = _last_failure(folder)
    if said is None:
        return None
    order = run.last_order()
    retried = order.retried_attempts.get(str(folder.path.relative_to(run.path)), 0) if order else 0
    return said if said.attempt > retried else None


def failed_for_good(run: RunDir, folder: WorkDir, code: str) -> State | None:
    """The state of what failed by the very code of that digest, and would again."""
    said = failure(run, folder)
    return said if said and not said.can_pass and said.code == code else None


def given_up(run: RunDir, code: str) -> str:
    """Why nothing that is left of the run is worth a try with that code; "" where something is."""
    reasons = []
    for work in left(run):
        said = failed_for_good(run, work.folder, code)
        if said is None:
            return ""
        reasons.append(f"{work}: {said.reason}")
    return "; ".join(reasons)


def failures(run: RunDir) -> list[WorkDir]:
    """The run's training and evaluations whose last attempts failed, whatever was ordered since."""
    return [folder for folder in (run, *run.evaluations()) if _last_failure(folder)]


def _last_failure(folder: WorkDir) -> State | None:
    """The state of the last attempt at the folder, if it failed."""
    said = folder.state()
    return said if said.has_failed and said.attempt == folder.owner() else None


@cache
def key_of(run: Path, asked: Request) -> str:
    """The digest of the evaluation key under which the run's records of that request lie."""
    return evaluation_key(RunDir(run).config().model_copy(update={"evaluation": asked.evaluation})).digest
