"""The training loop: steps, the loss log, checkpoints, and stopping on all processes at the same step."""

import time
from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext

import numpy as np
import torch

from diffussm.diffusion.gaussian import Losses
from diffussm.distributed.sync_schedule import SyncSchedule
from diffussm.errors import Diverged
from diffussm.stopping import Stopped, StopRequest, Superseded
from diffussm.store.execution import SettingsFiles, StepSettings
from diffussm.store.rundir import RunDir
from diffussm.training.checkpoints.staging import Staging
from diffussm.training.checkpoints.writer import CheckpointWriter, OnWarning
from diffussm.training.loss_log import LossLog
from diffussm.training.trainer import Trainer

LOG_EVERY = 10  # steps between two rows; in between, several processes agree on nothing unless steps are slow
OWNER_SECONDS = 1.0  # between two looks at who owns the run

Milestones = Mapping[int, Collection[str]]  # step -> kinds of weights to keep (ema, raw)
OnProgress = Callable[[int, float, float], object]  # called with step, loss and seconds per step


def _ignore(warning: str) -> None:
    """Leave a warning to what is printed."""


def train(
    run: RunDir,
    trainer: Trainer,
    attempt: int,
    milestones: Milestones,
    checkpoint_seconds: float,
    on_progress: OnProgress,
    stop: StopRequest,
    on_warning: OnWarning = _ignore,
) -> int:
    """Train from the newest checkpoint to the last of `milestones`; return the step of that checkpoint, or 0.

    Rank zero writes a checkpoint at every milestone, every `checkpoint_seconds`, and when it stops, the last of which
    is on disk when this returns or raises Stopped. A full disk is a warning, until then. Raises, on all
    ranks at the same step, Stopped once `stop` is set on one of them, Diverged on a loss that is not finite, and
    Superseded if another attempt owns the run. Several processes look at all of this when they synchronise.
    """
    state, last_step = trainer.state, max(milestones)
    state.load_newest(run, trainer.processes)
    first_step = state.step
    is_rank_zero = trainer.processes.is_rank_zero
    if is_rank_zero and run.mode == "train":
        settings = StepSettings.of(trainer.config)
        SettingsFiles(run.path).hold(settings, attempt, first_step, first=run.execution() or settings)
    staging = Staging(state.device) if is_rank_zero and state.device.type == "cuda" else None
    with (
        LossLog(run.loss_log(attempt)) if is_rank_zero else nullcontext() as log,
        CheckpointWriter(run, state, attempt, on_warning, staging) as writer,
    ):
        bookkeeping = _Bookkeeping(run, trainer, attempt, milestones, log, writer, stop)
        schedule = SyncSchedule(trainer.processes, LOG_EVERY, first_step)
        while state.step < last_step:
            losses = trainer.step()
            is_logged = state.step % LOG_EVERY == 0 or state.step in milestones
            if not (is_logged or schedule.is_due(state.step)):
                continue
            if is_logged:
                bookkeeping.log(losses, on_progress)
            is_due = state.step in milestones or bookkeeping.seconds_since_checkpoint > checkpoint_seconds
            is_due, seconds_per_step, stopped = bookkeeping.agree(is_due, schedule.seconds_per_step(state.step))
            if is_due or stopped:
                bookkeeping.write_checkpoint(is_last=bool(stopped) or state.step == last_step)
            if stopped and state.step < last_step:
                writer.wait()
                trainer.processes.barrier()  # torchrun and srun kill all ranks once one exits
                raise stopped.at(state.step)
            schedule.update(state.step, seconds_per_step)
        writer.wait()
    return first_step


class _Bookkeeping:
    """What happens between two steps. `log` is rank zero's loss log; the other ranks write nothing."""

    def __init__(
        self,
        run: RunDir,
        trainer: Trainer,
        attempt: int,
        milestones: Milestones,
        log: LossLog | None,
        writer: CheckpointWriter,
        stop: StopRequest,
    ):
        self._run, self._state, self._processes = run, trainer.state, trainer.processes
        self._attempt, self._milestones, self._loss_log, self._writer = attempt, milestones, log, writer
        self._stop = StopRequest(parent=stop)
        self._checkpoint_time = self._owner_checked = time.monotonic()
        self._start_timer()

    @property
    def seconds_since_checkpoint(self) -> float:
        """The time since the last checkpoint was begun; 0 while it is being written."""
        return 0.0 if self._writer.is_busy else time.monotonic() - self._checkpoint_time

    def log(self, losses: Losses, on_progress: OnProgress) -> None:
        """Log the batch's mean losses and the seconds per step since the last row or checkpoint, and report them."""
        means = self._processes.all_reduce_sum(torch.stack(losses).tolist())  # waits for a GPU once
        row = dict(zip(Losses._fields, means, strict=True))
        step = self._state.step
        if not np.isfinite(row["total"]):
            raise Diverged(f"loss is {row['total']} at step {step}")
        seconds = (time.monotonic() - self._timer) / (step - self._timed_from)
        if self._loss_log:
            self._loss_log.add({"step": step, **row, "seconds_per_step": seconds})
        self._start_timer()
        try:
            on_progress(step, row["total"], seconds)
        except Superseded as superseded:  # raised on rank zero alone: `agree` tells the others
            self._stop.set(superseded)

    def agree(self, is_due: bool, seconds_per_step: float) -> tuple[bool, float, Stopped | None]:
        """Return on every rank whether rank zero finds a checkpoint due, the longest time that a step took a rank, and
        the stop that was requested on one of them; None to continue.

        Raises Superseded on every rank if another attempt owns the run, which rank zero checks before every checkpoint,
        and when the processes first synchronise after a second without: the process may have been paused for long.
        """
        stopped = self._stop.stopped
        if self._processes.is_rank_zero and (is_due or time.monotonic() - self._owner_checked > OWNER_SECONDS):
            stopped = self._superseded() or stopped
        is_due = is_due and self._processes.is_rank_zero
        *flags, seconds_per_step = self._processes.all_reduce_max([bool(stopped), is_due, seconds_per_step])
        is_stopped, is_due = map(bool, flags)
        if is_stopped and (stopped := self._processes.first_nonempty(stopped)):
            stopped = self._processes.broadcast(self._superseded() or stopped)
        if isinstance(stopped, Superseded):
            raise stopped
        return is_due, seconds_per_step, stopped

    def write_checkpoint(self, is_last: bool) -> None:
        """Begin to write the state and, at a milestone, the weights to keep, after the loss log is on disk."""
        if not self._loss_log:
            return
        step = self._state.step
        kinds = self._milestones.get(step, ())
        self._writer.wait()
        with nullcontext() if kinds or is_last else self._writer.tolerating_full_disk(step):
            self._loss_log.save()
            self._writer.write(kinds, is_last)
        self._checkpoint_time = time.monotonic()
        self._start_timer()

    def _start_timer(self) -> None:
        self._timer, self._timed_from = time.monotonic(), self._state.step

    def _superseded(self) -> Superseded | None:
        self._owner_checked = time.monotonic()
        owner = self._run.owner()
        return None if owner == self._attempt else Superseded(f"{self._run.describe_attempt(owner)} owns the folder")
