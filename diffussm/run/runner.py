"""What one job does with one run folder: train it as far as its requests ask, evaluate what is missing.

A process is handed the folder and nothing else. One does the work, or the many that torchrun or srun started: each
trains on its part of the batch and makes its part of the samples, and rank zero decides what is done and writes it.
"""

import contextlib
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from diffussm.config import Config, Request
from diffussm.distributed.group import SINGLE_PROCESS, ProcessGroup, device_of
from diffussm.errors import UserError
from diffussm.host import provenance
from diffussm.metrics.context import EvaluationContext
from diffussm.metrics.milestones import evaluate_milestone
from diffussm.metrics.requirements import missing_requirement
from diffussm.run.attempt import Attempt
from diffussm.run.claim import IsAlive, claim_task, take_over
from diffussm.run.execution import resolve_execution
from diffussm.run.output import redirect_output
from diffussm.run.tasks import Task, Work, left, replays
from diffussm.stopping import StopRequest, Superseded
from diffussm.store import records
from diffussm.store.execution import Execution
from diffussm.store.rundir import RunDir, step_of
from diffussm.training.loop import Trainer, train

CHECKPOINT_SECONDS = 60.0
OnProgress = Callable[[str, int, int, str], object]  # task, how much of it is done, of how much, a note


class Cell:
    """Work on one run in this process, or in many, each with a cell of its own, until `stop` is set.

    `threads` are for runs whose config leaves their number to the machine. With `to_logs` each process prints to the
    log that is its own in the folder of what it works on.
    """

    def __init__(
        self,
        path: Path,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
        stop: StopRequest | None = None,
        threads: int = 0,
        processes: ProcessGroup = SINGLE_PROCESS,
        to_logs: bool = False,
        on_progress: OnProgress | None = None,
    ):
        self.run = RunDir(path)
        self.config = self.run.config()
        self.checkpoint_seconds = checkpoint_seconds
        self.threads, self.processes, self.to_logs = threads, processes, to_logs
        self.stop = stop or StopRequest()
        self._on_progress = on_progress or _ignore
        self._attempt: Attempt | None = None

    def work(self, tasks: Collection[Task] = ("train", "evaluate"), is_alive: IsAlive = take_over) -> None:
        """Everything of those tasks that is left, one thing after the other.

        Raises what went wrong, and Superseded where another process has a task and works, as `is_alive` decides.
        """
        while claimed := self.processes.on_rank_zero(lambda: self._claimed(tasks, is_alive)):
            self.do(*claimed)

    def do(self, work: Work, number: int) -> None:
        """One training or evaluation, as the attempt `number` that owns its folder; the state there tells how it went.

        Raises what went wrong.
        """
        if self.to_logs:
            redirect_output(work.folder.output(number, self.processes.rank))
            print(f"{work}: {self.run.run_id}, process {os.getpid()}", flush=True)
        self._attempt = Attempt(work.folder, number, self._is_cancelled, self.processes, self.stop)
        with self._attempt as attempt:
            if work.task == "train":
                self._train(attempt)
            else:
                self._evaluate(attempt, work)

    @property
    def has_progress(self) -> bool:
        """Whether the last attempt made a first step or sample."""
        return self._attempt is not None and self._attempt.has_progress

    def _is_cancelled(self) -> bool:
        with contextlib.suppress(UserError):  # a damaged order does not end what is under way
            return self.run.cancelled
        return False

    def _claimed(self, tasks: Collection[Task], is_alive: IsAlive) -> tuple[Work, int] | None:
        """What is next, and the number of the attempt at it; None where nothing is left."""
        while pending := [work for work in left(self.run) if work.task in tasks]:
            if number := claim_task(pending[0], is_alive):
                return pending[0], number
            if pending[0] in left(self.run):
                folder = pending[0].folder
                raise Superseded(f"{pending[0]}: attempt {folder.owner()} is at work in {folder.path}")
        return None

    def _train(self, attempt: Attempt) -> None:
        self.processes.on_rank_zero(self._prepare)
        execution = self._execution()

        def begin() -> dict[int, set[str]]:
            self.run.write_provenance(attempt.number, self._provenance(attempt, execution))
            return replays(self.run, self.run.requests())

        if lost := self.processes.on_rank_zero(begin):
            self._replay(lost, attempt, execution)
        while targets := self.processes.on_rank_zero(self._milestones_ahead):  # more may be asked meanwhile
            self._train_to(self.run, targets, attempt, execution)

    def _prepare(self) -> None:
        for asked in self.run.requests():  # what its evaluations need must be there before it starts
            _check_requirements(self.config.model_copy(update={"evaluation": asked.evaluation}))
        self.run.remove_temporaries()

    def _execution(self) -> Execution:
        return resolve_execution(self.run, self.config, self.threads, self.processes.world_size)

    def _provenance(self, attempt: Attempt, execution: Execution) -> dict[str, Any]:
        by = {"attempt": attempt.number, "processes": self.processes.world_size}
        return {**provenance.describe(), **by, **execution.model_dump()}

    def _replay(self, lost: dict[int, set[str]], attempt: Attempt, execution: Execution) -> None:
        """Train to lost milestones again, and see on the way that the weights kept before them come out the same."""
        replay = self.run.replay

        def begin() -> dict[int, set[str]]:
            for checkpoint in replay.checkpoints():
                if step_of(checkpoint) >= min(lost):
                    checkpoint.unlink()
            passed = {
                step: {kind for kind in ("ema", "raw") if self.run.weights(step, kind).exists()}
                for step in {*self.run.kept_milestones("ema"), *self.run.kept_milestones("raw")}
                if step <= max(lost)
            }
            return {step: lost.get(step, set()) | passed.get(step, set()) for step in sorted({*lost, *passed})}

        self._train_to(replay, self.processes.on_rank_zero(begin), attempt, execution)
        if self.processes.is_rank_zero:
            for checkpoint in replay.checkpoints():
                checkpoint.unlink()

    def _milestones_ahead(self) -> dict[int, set[str]]:
        """Milestones beyond the newest checkpoint, with the kinds of weights to keep at each."""
        out: dict[int, set[str]] = {}
        for asked in self.run.requests():
            for step in asked.milestones:
                if step > self.run.trained_steps():
                    out.setdefault(step, set()).add(asked.evaluation.weights)
        return out

    def _train_to(self, run: RunDir, milestones: dict[int, set[str]], attempt: Attempt, execution: Execution) -> None:
        device, steps = device_of(execution.device), max(milestones)
        trainer = Trainer(self.config, execution.backend, device, self.processes, execution.shares)

        def on_step(step: int, loss: float, seconds: float) -> None:
            attempt.say(phase="train", lane=run.lane, step=step, steps=steps, loss=loss, seconds_per_step=seconds)
            what = "training" if run.lane == "train" else "replay"
            self._on_progress(f"{what}: step", step, steps, f"loss {loss:.4g}")

        train(run, trainer, attempt.number, milestones, self.checkpoint_seconds, on_step, attempt.stop)

    def _evaluate(self, attempt: Attempt, work: Work) -> None:
        asked = self.processes.on_rank_zero(lambda: self._asked(work))
        if asked is None:
            return  # another was faster
        config = self.config.model_copy(update={"evaluation": asked.evaluation})
        _check_requirements(config)
        execution = self._execution()
        device, origin = device_of(execution.device), self._provenance(attempt, execution)
        samples = asked.evaluation.samples

        def report(done: int) -> None:
            attempt.say(phase="evaluate", milestone=work.step, sample=done, samples=samples)
            self._on_progress(f"{work}: sample", done, samples, "")

        context = EvaluationContext(self.processes, attempt.stop, report)
        evaluate_milestone(self.run, config, work.step, execution.backend, device, origin, context)

    def _asked(self, work: Work) -> Request | None:
        """What the evaluation is to be like; None where its record is there."""
        if records.read(self.run.record(work.step, work.key)):
            return None
        work.folder.remove_temporaries()
        (asked,) = (request for request in self.run.requests() if request.digest == work.request)
        return asked


def _check_requirements(config: Config) -> None:
    if missing := missing_requirement(config):
        raise UserError(missing)


def _ignore(task: str, done: int, total: int, note: str) -> None:
    """Show no progress."""
