"""The tasks of a run, read from its folder: its training, and evaluations of milestones. No torch."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

from diffussm.config import Config, Request
from diffussm.metrics.key import key_digests
from diffussm.metrics.requirements import missing_measuring_requirement
from diffussm.store import records
from diffussm.store.execution import SettingsFiles
from diffussm.store.records import KeyDigests
from diffussm.store.rundir import RunDir, step_of
from diffussm.store.state import State
from diffussm.store.workdir import WorkDir

TaskKind = Literal["train", "evaluate"]


@dataclass(frozen=True)
class Task:
    """The training, up to the longest request of the run, or the evaluation of one milestone under one key."""

    run: Path
    kind: TaskKind
    step: int = 0
    request: str = ""  # digest
    key: str = ""  # digest

    @property
    def folder(self) -> WorkDir:
        run = RunDir(self.run)
        return run if self.kind == "train" else run.evaluation(self.step, self.key)

    def __str__(self) -> str:
        return "training" if self.kind == "train" else f"evaluation of step {self.step}"


def pending_tasks(run: RunDir) -> list[Task]:
    """Return the tasks that could start now: the training if steps or weights are missing, evaluations whose weights
    exist."""
    requests = run.requests()
    out = [Task(run.path, "train")] if steps_to_train(run, requests) or replayable_milestones(run, requests) else []
    for missing in missing_records(run, requests):
        kept = (step for step in missing.steps if run.weights(step, missing.request.evaluation.weights).exists())
        out += [Task(run.path, "evaluate", step, missing.request.digest, missing.key.key) for step in kept]
    return out


class MissingRecords(NamedTuple):
    """The milestones that have no record of one way to measure; it is that of `request`, and perhaps of others."""

    request: Request
    key: KeyDigests
    steps: tuple[int, ...]


def missing_records(run: RunDir, requests: list[Request]) -> list[MissingRecords]:
    """Return what is not measured yet, for each way to measure; ways that lack a file come last.

    Of requests that measure in the same way, by files at different places, one whose files are there stands for all.
    """
    same: dict[str, list[tuple[Request, KeyDigests]]] = {}
    for request in requests:
        key = request_key(run.path, request)
        same.setdefault(key.content or key.key, []).append((request, key))
    complete: list[MissingRecords] = []
    incomplete: list[MissingRecords] = []
    for equal in same.values():
        if steps := tuple(sorted({step for one in equal for step in milestones_without_record(run, *one)})):
            found = next(
                (one for one in equal if not missing_measuring_requirement(_requested_config(run.path, one[0]))), None
            )
            (complete if found else incomplete).append(MissingRecords(*(found or equal[0]), steps))
    return complete + incomplete


def is_done(run: RunDir) -> bool:
    """Return whether every requested record exists."""
    return not missing_records(run, run.requests())


def milestones_without_record(run: RunDir, request: Request, key: KeyDigests) -> Iterator[int]:
    """Yield the milestones of the request that have no valid record."""
    return (step for step in request.milestones if records.find(run.milestone(step), key) is None)


def lost_milestones(run: RunDir, request: Request, key: KeyDigests) -> list[int]:
    """Return the milestones without a record that training has passed without keeping their weights, nor a checkpoint
    of that very step."""
    lost = set(run.lost_milestones(request)).intersection(milestones_without_record(run, request, key))
    return sorted(lost - _checkpointed_steps(run))


def _restorable_milestones(run: RunDir, request: Request) -> set[int]:
    """Return the milestones without weights and record of which a checkpoint of that very step is kept."""
    found = _checkpointed_steps(run).intersection(run.lost_milestones(request))
    return found and found.intersection(milestones_without_record(run, request, request_key(run.path, request)))


def _checkpointed_steps(run: RunDir) -> set[int]:
    return {step_of(path) for path in run.checkpoints()}


def milestones_without_weights(run: RunDir) -> set[int]:
    """Return the milestones of all requests that training has passed without keeping their weights."""
    return {step for request in run.requests() for step in run.lost_milestones(request)}


def record_of(task: Task) -> records.Record | None:
    """Return the valid record of an evaluation; None if there is none."""
    run = RunDir(task.run)
    return records.find(run.milestone(task.step), request_key(task.run, requested(task)))


def requested(task: Task) -> Request:
    """Return the request that an evaluation is for."""
    return next(request for request in RunDir(task.run).requests() if request.digest == task.request)


def steps_to_train(run: RunDir, requests: list[Request]) -> int:
    """Return the number of steps between the newest checkpoint and the longest request."""
    return max(0, max((request.steps for request in requests), default=0) - run.trained_steps())


def replayable_milestones(run: RunDir, requests: list[Request]) -> dict[int, set[str]]:
    """Return the milestones whose weights may be made again, with the kinds of weights (ema | raw): damaged ones, and
    lost ones if a replay was allowed or a checkpoint of that very step is kept."""
    out: dict[int, set[str]] = {}
    for request in requests:
        lost = run.lost_milestones(request) if run.may_replay(request) else _restorable_milestones(run, request)
        for step in (*lost, *run.lost_milestones(request, damaged=True)):
            out.setdefault(step, set()).add(request.evaluation.weights)
    return out


def failure(run: RunDir, folder: WorkDir) -> State | None:
    """Return the state of a task's last attempt if that failed, and neither a retry nor, of the training, other step
    settings were ordered since."""
    state = _last_failure(folder)
    if state is None:
        return None
    order, is_training = run.last_order(), folder.path == run.path
    retried = order.retried_attempts.get(str(folder.path.relative_to(run.path)), 0) if order else 0
    if is_training and (ordered := SettingsFiles(run.path).ordered()):
        retried = max(retried, ordered.attempt)
    return state if state.attempt > retried else None


def permanent_failure(run: RunDir, folder: WorkDir, code: str) -> State | None:
    """Return the failed state of a task that the code of this digest would fail at again; None if a retry may help."""
    state = failure(run, folder)
    return state if state and not state.is_transient and state.code == code else None


def reason_to_give_up(run: RunDir, code: str) -> str:
    """Return why every pending task of the run would fail again with this code; "" if one may succeed."""
    reasons = []
    for task in pending_tasks(run):
        state = permanent_failure(run, task.folder, code)
        if state is None:
            return ""
        reasons.append(f"{task}: {state.reason}")
    return "; ".join(reasons)


def failures(run: RunDir) -> list[WorkDir]:
    """Return the folders of the training and evaluations whose last attempts failed, even if a retry was requested."""
    return [folder for folder in (run, *run.evaluations()) if _last_failure(folder)]


def _last_failure(folder: WorkDir) -> State | None:
    """Return the state of the folder's last attempt if it failed."""
    state = folder.state()
    return state if state.has_failed and state.attempt == folder.owner() else None


def request_key(run: Path, request: Request) -> KeyDigests:
    """Return the digests by which the run's records for this request are found."""
    return key_digests(_requested_config(run, request))


def _requested_config(run: Path, request: Request) -> Config:
    return _config(run).model_copy(update={"evaluation": request.evaluation})


@cache
def _config(run: Path) -> Config:
    return RunDir(run).config()
