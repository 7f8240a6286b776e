"""What one job does with one run folder: train it as far as its requests ask, evaluate what is missing.

    python -m ablations.cell RUNDIR

It is handed the folder and nothing else. Exit code 0: all done; 1: failed, the reason in a state.json; 2: a user's
mistake; 3: stopped by SIGTERM or SIGINT after a checkpoint, to be started again.
"""

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ablations.attempt import Attempt
from ablations.work import Work, left, replays
from diffussm import provenance, records
from diffussm.config import Config
from diffussm.errors import UserError
from diffussm.metrics.catalogue import config_lacks
from diffussm.metrics.evaluate import Evaluator
from diffussm.metrics.milestones import evaluate_milestone
from diffussm.rundir import RunDir, step_of
from diffussm.training.loop import Preempted, Trainer, train
from diffussm.training.settle import settle

CHECKPOINT_SECONDS = 60.0


def nothing() -> str:
    """No reason to stop."""
    return ""


class Cell:
    """Work on one run in this process. `threads` are for runs whose config leaves their number to the machine."""

    def __init__(
        self,
        path: Path,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
        reason_to_stop: Callable[[], str] = nothing,
        threads: int = 0,
    ):
        self.run = RunDir(path)
        self.config = self.run.config()
        self.checkpoint_seconds = checkpoint_seconds
        self.threads = threads
        self.stopping = ""
        self._reason_to_stop = reason_to_stop
        self._attempt: Attempt | None = None

    def work(self) -> None:
        """Everything that is left, one thing after the other. Raises what went wrong."""
        while works := left(self.run):
            number = works[0].folder.claim()
            assert number is not None
            self.do(works[0], number)

    def do(self, work: Work, number: int) -> None:
        """One training or evaluation, as the attempt `number` that owns its folder; the state there tells how it went.

        Raises what went wrong.
        """
        self._attempt = Attempt(work.folder, number, self._reason)
        try:
            with self._attempt as attempt:
                attempt.stop(self.stopping)
                if work.task == "train":
                    self._train(attempt)
                else:
                    self._evaluate(attempt, work)
        finally:
            self._attempt = None

    def stop(self, reason: str) -> None:
        """Ask for a checkpoint and an end."""
        self.stopping = reason
        if self._attempt:
            self._attempt.stop(reason)

    def _reason(self) -> str:
        return "cancelled" if self.run.cancelled else self._reason_to_stop()

    def _train(self, attempt: Attempt) -> None:
        for asked in self.run.requests():  # what its evaluations need must be there before it starts
            _refuse_lacking(self.config.model_copy(update={"evaluation": asked.evaluation}))
        self.run.remove_temporaries()
        machine = settle(self.run, self.config, self.threads)
        self.run.write_provenance(attempt.number, {**provenance.describe(), "attempt": attempt.number, **machine})
        if lost := replays(self.run, self.run.requests()):
            self._replay(lost, attempt, machine)
        while targets := self._milestones_ahead():  # more may be asked meanwhile
            self._train_to(self.run, targets, attempt, machine)

    def _replay(self, lost: dict[int, set[str]], attempt: Attempt, machine: dict[str, Any]) -> None:
        """Train to lost milestones again, and see on the way that the weights kept before them come out the same."""
        replay = self.run.replay
        for checkpoint in replay.checkpoints():
            if step_of(checkpoint) >= min(lost):
                checkpoint.unlink()
        passed = {
            step: {kind for kind in ("ema", "raw") if self.run.weights(step, kind).exists()}
            for step in {*self.run.kept_milestones("ema"), *self.run.kept_milestones("raw")}
            if step <= max(lost)
        }
        targets = {step: lost.get(step, set()) | passed.get(step, set()) for step in sorted({*lost, *passed})}
        self._train_to(replay, targets, attempt, machine)
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

    def _train_to(self, run: RunDir, milestones: dict[int, set[str]], attempt: Attempt, machine: Any) -> None:
        trainer, steps = Trainer(self.config, machine["backend"], machine["device"]), max(milestones)

        def on_step(step: int, loss: float, seconds: float) -> None:
            attempt.say(phase="train", lane=run.lane, step=step, steps=steps, loss=loss, seconds_per_step=seconds)

        train(run, trainer, attempt.number, milestones, self.checkpoint_seconds, on_step, lambda: attempt.stopping)

    def _evaluate(self, attempt: Attempt, work: Work) -> None:
        if records.read(self.run.record(work.step, work.key)):
            return  # another was faster
        attempt.folder.remove_temporaries()
        (asked,) = (request for request in self.run.requests() if request.digest == work.request)
        config = self.config.model_copy(update={"evaluation": asked.evaluation})
        _refuse_lacking(config)
        machine = settle(self.run, self.config, self.threads)
        samples = asked.evaluation.samples

        def progress(done: int) -> None:
            attempt.say(phase="evaluate", milestone=work.step, sample=done, samples=samples)

        def watched(_: nn.Module, __: tuple[Tensor, ...]) -> None:
            attempt.check()

        evaluate_milestone(
            self.run,
            config,
            work.step,
            Evaluator(config, machine["device"]),
            machine["backend"],
            {**provenance.describe(), "attempt": attempt.number, **machine},
            progress,
            watched,
        )


def _refuse_lacking(config: Config) -> None:
    if lacks := config_lacks(config):
        raise UserError(lacks)


def main() -> int:
    parser = argparse.ArgumentParser(description="Work on one run folder: train it, evaluate its milestones.")
    parser.add_argument("rundir", type=Path)
    parser.add_argument("--checkpoint-seconds", type=float, default=CHECKPOINT_SECONDS)
    arguments = parser.parse_args()
    try:
        cell = Cell(arguments.rundir, arguments.checkpoint_seconds)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _: cell.stop(signal.Signals(number).name))
        print(f"{cell.run.run_id}: process {os.getpid()}", flush=True)
        cell.work()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Preempted as preempted:
        print(f"stopped: {preempted}", file=sys.stderr)
        return 3
    except Exception:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
