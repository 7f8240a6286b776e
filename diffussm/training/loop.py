"""The training loop of one run: a pure function of (config, step), whatever was killed before it."""

import json
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor

from diffussm.config import Config
from diffussm.data.load import training_data
from diffussm.diffusion.gaussian import GaussianDiffusion, Losses
from diffussm.diffusion.sampling import training_schedule
from diffussm.models.build import build_model
from diffussm.rng import Stream, integers, normal, uniform
from diffussm.rundir import RunDir
from diffussm.training.state import TrainingState

LOG_EVERY = 10


class Diverged(Exception):
    """The loss is not finite."""


class Superseded(Exception):
    """Another attempt owns the run now."""


class Preempted(Exception):
    """The work was asked to leave; what it did is kept, and whoever takes it up goes on from there."""


class Trainer:
    """One run in memory: `step` makes one update of its state."""

    def __init__(self, config: Config, backend: str, device: str = "cpu"):
        self.config, self.device = config, device
        self.data = training_data(config.data.name)
        self.diffusion = GaussianDiffusion(training_schedule(config.diffusion), config.diffusion, device)
        self.state = TrainingState(build_model(config, backend).to(device), config.training)

    def step(self) -> Losses:
        """Forward, backward, update; returns the batch's mean losses."""
        x0, y, index, noise = (part.to(self.device) for part in self.batch(self.state.step))
        xt = self.diffusion.add_noise(x0, index, noise)
        bf16 = self.config.training.precision == "bf16"
        with torch.autocast(x0.device.type, dtype=torch.bfloat16) if bf16 else nullcontext():
            output = self.state.model(xt, index, y)
        losses = self.diffusion.losses(output.float(), x0, xt, index, noise)
        losses = Losses(*(part.mean() for part in losses))
        self.state.optimiser.zero_grad()
        losses.total.backward()
        self.state.optimiser.step()
        self.state.step += 1
        self.state.ema.update(self.state.step)
        return losses

    def batch(self, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Images (B, C, H, W) in [-1, 1], labels, timestep indices and noise of a step: functions of (seed, step)."""
        seed, size, model = self.config.seed, self.config.training.batch, self.config.model
        images = self.data.batch(seed, step, size)
        pixels = torch.from_numpy(images.pixels)
        labels = images.labels if model.classes else np.zeros(size, dtype=np.int64)
        dropped = uniform(seed, Stream.LABEL_DROP, step, 0, size) < self.config.training.label_dropout
        return (
            pixels.float() / 127.5 - 1,
            torch.from_numpy(np.where(dropped, model.classes, labels)),
            torch.from_numpy(integers(seed, Stream.TIMESTEP, step, 0, size, self.config.diffusion.timesteps)),
            torch.from_numpy(normal(seed, Stream.NOISE, step, 0, size, tuple(pixels.shape[1:]))),
        )


def train(
    run: RunDir,
    trainer: Trainer,
    attempt: int,
    milestones: Mapping[int, Collection[str]],
    checkpoint_seconds: float,
    on_step: Callable[[int, float, float], None],
    stop: Callable[[], str],
) -> None:
    """Train to the last of `milestones` (step -> kinds of weights to keep), from the newest checkpoint.

    Checkpoints are written at every milestone and every `checkpoint_seconds`. `on_step` is told step, loss and seconds
    per step now and then. Raises Preempted once `stop()` gives a reason, Diverged on a loss that is not finite,
    Superseded when another attempt took the run over.
    """
    state = trainer.state
    state.load_newest(run)
    last = max(milestones)
    saved = started = time.monotonic()
    since = 0
    with run.log(attempt).open("a") as log:
        while state.step < last:
            losses = trainer.step()
            since += 1
            if state.step % LOG_EVERY == 0 or state.step in milestones:
                row = {name: value.item() for name, value in losses._asdict().items()}
                if not np.isfinite(row["total"]):
                    raise Diverged(f"loss is {row['total']} at step {state.step}")
                now = time.monotonic()
                seconds = (now - started) / since
                log.write(json.dumps({"step": state.step, **row, "seconds_per_step": seconds}) + "\n")
                started, since = now, 0
                on_step(state.step, row["total"], seconds)
            kinds = milestones.get(state.step, ())
            stopping = stop()
            if kinds or stopping or time.monotonic() - saved > checkpoint_seconds:
                if run.owner() != attempt:
                    raise Superseded(f"attempt {run.owner()} owns the run")
                log.flush()
                for kind in kinds:
                    state.save_weights(run, kind)
                state.save(run, attempt)
                saved = started = time.monotonic()
                since = 0
            if stopping and state.step < last:
                raise Preempted(f"{stopping} at step {state.step}")
