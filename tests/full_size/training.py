"""A process that trains from the newest checkpoint up to the second step, reports what it saw as JSON, and dies there.

The first step is a milestone, so that weights and state are written beside the second.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, ClassVar

from diffussm.config import Request
from diffussm.cost.memory.account import account
from diffussm.diffusion.gaussian import Losses
from diffussm.run.execution import resolve_execution
from diffussm.stopping import StopRequest
from diffussm.store.rundir import RunDir
from diffussm.training import loop
from diffussm.training.checkpoints.writer import CheckpointWriter
from diffussm.training.trainer import Trainer
from tests.full_size.shared import Peak, config_of, digest, kill_first, timed

NEVER = 1e9


class TimedWriter(CheckpointWriter):
    """Notes how long an update waits, and how long writing takes."""

    waits: ClassVar[list[float]] = []
    writings: ClassVar[list[float]] = []

    def _before_update(self) -> None:
        with timed(self.waits):
            super()._before_update()

    def _write(self, *arguments: Any) -> None:
        with timed(self.writings):
            super()._write(*arguments)


class DyingTrainer(Trainer):
    """Reports after the second step, and dies."""

    steps: ClassVar[list[float]] = []
    report: dict[str, Any]
    peak: Peak

    def step(self) -> Losses:
        with timed(self.steps):
            losses = super().step()
        if self.state.step == 2:
            found = {"peak": self.peak.bytes, "waits": TimedWriter.waits, "writings": TimedWriter.writings}
            found |= {"steps": self.steps, "digest": digest(self.state.content())}
            print(json.dumps(self.report | found), flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        return losses


def main(folder: Path, model: str, depth: int) -> None:
    kill_first()
    config = config_of(folder, model, depth)
    run = RunDir.create(folder / "runs", config)
    run.add_requests([Request.from_config(config)])
    attempt = run.claim()
    assert attempt
    execution = resolve_execution(run, config)
    expected = account(config, backend=execution.backend, device="cpu")
    assert expected
    peak = Peak()
    trainer = DyingTrainer(config, execution.backend)
    trainer.peak = peak
    trainer.report = {"resumed_at": run.trained_steps(), "backend": execution.backend, "account": expected.peak}
    loop.CheckpointWriter = TimedWriter  # type: ignore[attr-defined]
    loop.train(run, trainer, attempt, {1: ("ema",), 3: ("ema",)}, NEVER, lambda *_: None, StopRequest())


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
