"""What one job does: take over one run folder, train it as far as its requests ask, evaluate what is missing.

    python -m ablations.cell RUNDIR

It is handed the folder and nothing else. Exit code 0: all done; 1: failed, the reason in state.json; 2: a user's
mistake; 3: stopped by SIGTERM or SIGINT after a checkpoint, to be started again.
"""

import argparse
import os
import signal
import sys
import time
import traceback
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch

from diffussm import provenance, records
from diffussm.config import Config, Request
from diffussm.errors import UserError
from diffussm.machine import keep_freed_memory, usable_cores
from diffussm.metrics.catalogue import evaluation_key
from diffussm.metrics.evaluate import Evaluator
from diffussm.metrics.milestones import evaluate_milestone
from diffussm.rundir import RunDir
from diffussm.ssm.s4d import choose_backend
from diffussm.training.loop import Stopped, Superseded, Trainer, train

CHECKPOINT_SECONDS = 60.0
STATE_SECONDS = 0.5


class Cell:
    """One attempt at one run."""

    def __init__(self, path: Path, checkpoint_seconds: float = CHECKPOINT_SECONDS):
        self.run = RunDir(path)
        self.config = self.run.config()
        self.requests = self.run.requests()
        self.checkpoint_seconds = checkpoint_seconds
        self.attempt = self.run.claim()
        self.stopping = False
        self._beat, self._said = 0, 0.0
        self._last: dict[str, Any] = {}

    def work(self) -> None:
        """Train and evaluate; the folder's state tells how it went. Raises what went wrong."""
        try:
            self._work()
        except Stopped as stopped:
            self._say(phase="stopped", reason=str(stopped))
            raise
        except Superseded:
            raise  # the state belongs to another attempt now
        except BaseException as error:
            reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            self._say(phase="failed", reason=" ".join(reason.split()))
            raise

    def stop(self, *_: Any) -> None:
        """Ask for a checkpoint and an end (a signal handler)."""
        self.stopping = True

    def _work(self) -> None:
        self._say(phase="start")
        self.run.remove_temporaries()
        training = self.config.training
        machine = self.run.machine(
            {
                "backend": choose_backend(training.backend),
                "threads": training.threads or usable_cores(),
                "device": "cuda" if torch.cuda.is_available() else "cpu",
            }
        )
        keep_freed_memory()
        torch.set_num_threads(machine["threads"])
        origin = {**provenance.describe(), "attempt": self.attempt, **machine}
        self.run.write_provenance(self.attempt, origin)
        if not self._missing():
            self._say(phase="done")
            return
        self._train(machine)
        self._evaluate(machine, origin)
        self._say(phase="done")

    def _train(self, machine: dict[str, Any]) -> None:
        milestones: dict[int, set[str]] = defaultdict(set)
        for asked in self.requests:
            if lost := self.run.lost_milestones(asked):
                raise UserError(
                    f"milestone {lost[0]}: training is at step {self.run.trained_steps()} and the "
                    f"{asked.evaluation.weights} weights of that step were not kept"
                )
            for step in asked.milestones:
                milestones[step].add(asked.evaluation.weights)
        steps = max(milestones)
        if self.run.trained_steps() >= steps:
            return
        trainer = Trainer(self.config, machine["backend"], machine["device"])

        def on_step(step: int, loss: float) -> None:
            self._say(phase="train", step=step, steps=steps, loss=loss)

        train(
            self.run, trainer, self.attempt, dict(milestones), self.checkpoint_seconds, on_step, lambda: self.stopping
        )

    def _evaluate(self, machine: dict[str, Any], origin: dict[str, Any]) -> None:
        evaluators: dict[str, Evaluator] = {}
        for asked, step in self._missing():
            self._still_owner()
            config = self._config_of(asked)
            if asked.digest not in evaluators:
                evaluators[asked.digest] = Evaluator(config, machine["device"])

            def progress(done: int, step: int = step, samples: int = asked.evaluation.samples) -> None:
                self._say(phase="evaluate", milestone=step, sample=done, samples=samples)
                if self.stopping:
                    raise Stopped(f"evaluating step {step}")

            evaluate_milestone(self.run, config, step, evaluators[asked.digest], machine["backend"], origin, progress)

    def _still_owner(self) -> None:
        if self.run.owner() != self.attempt:
            raise Superseded(f"attempt {self.run.owner()} owns the run")

    def _missing(self) -> list[tuple[Request, int]]:
        out = []
        for asked in self.requests:
            key = evaluation_key(self._config_of(asked)).digest
            out += [(asked, step) for step in asked.milestones if records.read(self.run.record(step, key)) is None]
        return out

    def _config_of(self, asked: Request) -> Config:
        return self.config.model_copy(update={"evaluation": asked.evaluation})

    def _say(self, **state: Any) -> None:
        """Write the state: at once when the phase changes, else no more often than is worth reading.

        Raises Superseded, and writes nothing, where the folder belongs to another attempt.
        """
        now = time.monotonic()
        if state["phase"] == self._last.get("phase") and now - self._said < STATE_SECONDS:
            return
        self._still_owner()
        self._beat += 1
        self._last = {**state, "attempt": self.attempt, "heartbeat": self._beat}
        self._said = now
        self.run.write_state(self._last)


def main() -> int:
    parser = argparse.ArgumentParser(description="Work on one run folder: train it, evaluate its milestones.")
    parser.add_argument("rundir", type=Path)
    parser.add_argument("--checkpoint-seconds", type=float, default=CHECKPOINT_SECONDS)
    arguments = parser.parse_args()
    try:
        cell = Cell(arguments.rundir, arguments.checkpoint_seconds)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, cell.stop)
        print(f"{cell.run.run_id}: attempt {cell.attempt}, process {os.getpid()}", flush=True)
        cell.work()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Stopped as stopped:
        print(f"stopped: {stopped}", file=sys.stderr)
        return 3
    except Exception:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
