"""Execution of a run's tasks: training up to the longest request, and the evaluation of milestones.

A process is handed the run folder and nothing else. With several, started by torchrun or srun, each trains on its part
of the batch and makes its part of the samples; rank zero chooses the tasks and writes the results.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

from diffussm.config import Request
from diffussm.distributed.group import SINGLE_PROCESS, ProcessGroup, select_device_of_kind
from diffussm.errors import UserError
from diffussm.host import provenance
from diffussm.metrics.context import EvaluationContext
from diffussm.metrics.evaluation.milestones import evaluate_milestone
from diffussm.metrics.external_code import describe_changes, evaluation_code, training_code
from diffussm.metrics.requirements import check_requirements
from diffussm.run.attempt import Attempt
from diffussm.run.claim import IsAlive, claim_task
from diffussm.run.completion import check_evaluation, check_training
from diffussm.run.execution import describe_execution, held_executions, resolve_execution
from diffussm.run.outcome import print_failure
from diffussm.run.output import redirect_output
from diffussm.run.staging import stage_setting, staged_data
from diffussm.run.tasks import (
    Task,
    TaskKind,
    missing_records,
    pending_tasks,
    record_of,
    replayable_milestones,
    requested,
)
from diffussm.stopping import StopRequest, Superseded
from diffussm.store.execution import Execution
from diffussm.store.integrity.stamp import DamagedFile
from diffussm.store.rundir import RunDir, step_of
from diffussm.store.workdir import WorkDir
from diffussm.training.checkpoints.files import restore_milestones
from diffussm.training.loop import train
from diffussm.training.trainer import Trainer

OnProgress = Callable[[str, int, int, str], object]  # called with a task, how much of it is done, the total, a note


class TaskRunner:
    """Executes tasks of one run until `stop` is set; of several processes each has a runner.

    `checkpoint_minutes` replaces the config's. `threads` is for runs whose config leaves the number to the machine.
    With `to_logs` each process prints to a log of its own in the task's folder.
    """

    def __init__(
        self,
        path: Path,
        checkpoint_minutes: float | None = None,
        stop: StopRequest | None = None,
        threads: int = 0,
        processes: ProcessGroup = SINGLE_PROCESS,
        to_logs: bool = False,
        on_progress: OnProgress | None = None,
    ):
        self.run = RunDir(path)
        self.config = self.run.config()
        if checkpoint_minutes is None:
            checkpoint_minutes = self.config.training.checkpoint_minutes
        self.checkpoint_minutes = checkpoint_minutes
        self.threads, self.processes, self.to_logs = threads, processes, to_logs
        self.stop = stop or StopRequest()
        self._on_progress = on_progress or _ignore
        self._attempt: Attempt | None = None

    def run_pending(self, is_alive: IsAlive, kinds: Collection[TaskKind] = ("train", "evaluate")) -> None:
        """Claim and execute tasks of these kinds, one after another, until none is pending.

        Raises what ends a task early, and Superseded if a task has an owner that `is_alive`.
        """
        damaged: set[Path] = set()
        while claimed := self.processes.on_rank_zero(lambda: self._claim_next(kinds, is_alive)):
            try:
                self.execute(*claimed)
            except DamagedFile as damage:
                if damage.path in damaged or damage.path.exists():
                    raise
                damaged.add(damage.path)  # set aside, and made again by the next task
                print_failure(damage)

    def execute(self, task: Task, number: int) -> None:
        """Execute a task as attempt `number`, which owns its folder; raise what ends it early.

        Raises Unfinished if it ends without what it was to make: no task is pending after it ended well. The state in
        the folder records how it ended.
        """
        takeover = _describe_takeover(task.folder, number)
        self._attempt = Attempt(task.folder, number, self._is_cancelled, self.processes, self.stop)
        try:
            with self._attempt as attempt:
                self._begin_log(task, number, takeover)
                if task.kind == "train":
                    self._train(attempt)
                else:
                    self._evaluate(attempt, task)
                    self.processes.on_rank_zero(lambda: check_evaluation(task))
        except Superseded as superseded:
            if self.to_logs:
                print(f"attempt {number} gives way: {superseded}", file=sys.stderr, flush=True)
            raise

    def _begin_log(self, task: Task, number: int, takeover: str) -> None:
        if self.to_logs:
            redirect_output(task.folder.log_path(number, self.processes.rank))
            print(f"{task}: {self.run.run_id}, process {os.getpid()}", flush=True)
        if takeover and self.processes.is_rank_zero:
            print(takeover, file=sys.stderr, flush=True)

    @property
    def has_progress(self) -> bool:
        """Whether the last attempt made at least one step or sample."""
        return self._attempt is not None and self._attempt.has_progress

    def _is_cancelled(self) -> bool:
        with contextlib.suppress(UserError):  # a damaged order does not end a task
            return self.run.cancelled
        return False

    def _claim_next(self, kinds: Collection[TaskKind], is_alive: IsAlive) -> tuple[Task, int] | None:
        """Return the next task and the number of a new attempt at it; None if no task is pending."""
        while pending := [task for task in pending_tasks(self.run) if task.kind in kinds]:
            if number := claim_task(pending[0], is_alive):
                return pending[0], number
            if pending[0] in pending_tasks(self.run):
                folder = pending[0].folder
                raise Superseded(f"{pending[0]}: attempt {folder.owner()} is at work in {folder.path}")
        return None

    def _train(self, attempt: Attempt) -> None:
        self.processes.on_rank_zero(self._prepare_training)
        execution = self._execution()

        def begin() -> dict[int, set[str]]:
            described = {**execution.model_dump(by_alias=True), **stage_setting()}
            origin = self._provenance(attempt, described, training_code(self.config))
            _print_lines(describe_changes(self.run, origin, before=attempt.number))
            self.run.write_provenance(attempt.number, origin)
            restore_milestones(self.run, replayable_milestones(self.run, self.run.requests()))
            return replayable_milestones(self.run, self.run.requests())

        if lost := self.processes.on_rank_zero(begin):
            self._replay(lost, attempt, execution)
        while milestones := self.processes.on_rank_zero(self._next_milestones):  # requests may be added meanwhile
            self._train_to(self.run, milestones, attempt, execution)

    def _prepare_training(self) -> None:
        # A run none of whose results could be measured, for want of a file, must fail before it is trained.
        for missing in missing_records(self.run, self.run.requests())[:1]:
            check_requirements(self.config.model_copy(update={"evaluation": missing.request.evaluation}))
        self.run.remove_temporaries()

    def _execution(self) -> Execution:
        return resolve_execution(self.run, self.config, self.threads, self.processes.world_size)

    def _provenance(self, attempt: Attempt, execution: dict[str, Any], external: Iterable[str]) -> dict[str, Any]:
        of_attempt = {"attempt": attempt.number, "processes": self.processes.world_size}
        return {**provenance.describe(external), **of_attempt, **execution}

    def _replay(self, lost: dict[int, set[str]], attempt: Attempt, execution: Execution) -> None:
        """Train to lost milestones again, by the settings that held; on the way, compare the weights of earlier
        milestones with the kept ones."""
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

        milestones = self.processes.on_rank_zero(begin)
        for held, last in self.processes.on_rank_zero(lambda: held_executions(self.run, execution, max(lost))):
            part = {step: kinds for step, kinds in milestones.items() if step <= last}
            self._train_to(replay, {last: set(), **part}, attempt, held)
        if self.processes.is_rank_zero:
            for checkpoint in replay.checkpoints():
                checkpoint.unlink()

    def _next_milestones(self) -> dict[int, set[str]]:
        """Return the milestones to keep weights at, with their kinds; none if the newest checkpoint is at the last one.

        Those before that checkpoint whose weights are missing are among them: it may turn out to be damaged.
        """
        out: dict[int, set[str]] = {}
        trained = self.run.trained_steps()
        for request in self.run.requests():
            kind = request.evaluation.weights
            for step in request.milestones:
                if step > trained or not self.run.weights(step, kind).exists():
                    out.setdefault(step, set()).add(kind)
        return out if max(out, default=0) > trained else {}

    def _train_to(self, run: RunDir, milestones: dict[int, set[str]], attempt: Attempt, execution: Execution) -> None:
        device, steps = select_device_of_kind(execution.device), max(milestones)

        def report(step: int, loss: float, seconds: float) -> None:
            attempt.report(phase="train", mode=run.mode, step=step, steps=steps, loss=loss, seconds_per_step=seconds)
            what = "training" if run.mode == "train" else "replay"
            self._on_progress(f"{what}: step", step, steps, f"loss {loss:.4g}")

        with staged_data(self.config, self.processes, attempt.stop) as config:
            config = execution.in_config(config)
            trainer = Trainer(config, execution.backend, device, self.processes, execution.micro_batches)
            with contextlib.closing(trainer):
                first_step = train(
                    run,
                    trainer,
                    attempt.number,
                    milestones,
                    60 * self.checkpoint_minutes,
                    report,
                    attempt.stop,
                    attempt.warn,
                )
        self.processes.on_rank_zero(lambda: check_training(run, milestones, first_step))

    def _evaluate(self, attempt: Attempt, task: Task) -> None:
        request = self.processes.on_rank_zero(lambda: self._request_to_evaluate(task))
        if request is None:
            return  # another process has written the record
        if self.processes.is_rank_zero:
            task.folder.remove_temporaries()
        config = self.config.model_copy(update={"evaluation": request.evaluation})
        execution = self._execution()
        device = select_device_of_kind(execution.device)
        described = describe_execution(self.run, execution, task.step)
        origin = self._provenance(attempt, described, evaluation_code(config))
        if self.processes.is_rank_zero:
            _print_lines(describe_changes(self.run, origin))
        samples = request.evaluation.samples

        def report(done: int) -> None:
            attempt.report(phase="evaluate", milestone=task.step, sample=done, samples=samples)
            self._on_progress(f"{task}: sample", done, samples, "")

        context = EvaluationContext(self.processes, attempt.stop, report)
        evaluate_milestone(self.run, config, task.step, execution.backend, device, origin, context)

    def _request_to_evaluate(self, task: Task) -> Request | None:
        """Return the request that the task evaluates; None if its record exists already."""
        return None if record_of(task) else requested(task)


def _describe_takeover(folder: WorkDir, number: int) -> str:
    """Return from whom the attempt takes over, if the one before did not come to an end; else ""."""
    with contextlib.suppress(OSError, UserError):
        state = folder.state()
        if number > 1 and state.attempt == number - 1 and state.is_active:
            where = "" if state.step is None else f", last heard of at step {state.step}"
            return f"attempt {number} takes over from {folder.describe_attempt(state.attempt)}{where}"
    return ""


def _print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, file=sys.stderr, flush=True)


def _ignore(task: str, done: int, total: int, note: str) -> None:
    """Show no progress."""
