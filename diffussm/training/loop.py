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
from diffussm.distributed.group import SINGLE_PROCESS, ProcessGroup
from diffussm.errors import Diverged
from diffussm.models.build import build_model
from diffussm.rng import Stream, integers, normal, uniform
from diffussm.stopping import StopRequest, Superseded
from diffussm.store.rundir import RunDir
from diffussm.training.parallel import Share, apart, averaged, shares_of
from diffussm.training.state import TrainingState

LOG_EVERY = 10


class Trainer:
    """One run in memory: `step` makes one update of its state. Of many processes each computes its shares of the batch,
    and all come to the same state."""

    def __init__(
        self,
        config: Config,
        backend: str,
        device: str = "cpu",
        processes: ProcessGroup = SINGLE_PROCESS,
        shares: int = 1,
    ):
        self.config, self.device, self.processes = config, device, processes
        self.shares = shares_of(config.training.batch, processes, shares)
        self.data = training_data(config.data.name)
        self.diffusion = GaussianDiffusion(training_schedule(config.diffusion), config.diffusion, device)
        self.state = TrainingState(build_model(config, backend).to(device), config.training)
        self.network = averaged(self.state.model, processes)
        if processes.world_size > 1:
            self._settle_order_of_sums()

    def step(self) -> Losses:
        """Forward, backward, update; returns the batch's mean losses, or, of many processes, what this one's samples
        add to them."""
        self.state.optimiser.zero_grad()
        *earlier, last = self.shares
        with apart(self.network):
            found = [self._backward(share) for share in earlier]
        found.append(self._backward(last))
        self.state.optimiser.step()
        self.state.step += 1
        self.state.ema.update(self.state.step)
        return Losses(*(sum(parts[1:], parts[0]) for parts in zip(*found, strict=True)))

    def batch(self, step: int, start: int = 0, count: int | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Images (B, C, H, W) in [-1, 1], labels, timestep indices and noise of a step: functions of (seed, step).

        All of the batch, or `count` samples from `start` on.
        """
        seed, size, model = self.config.seed, self.config.training.batch, self.config.model
        count = size - start if count is None else count
        images = self.data.batch(seed, step, size, start, count)
        pixels = torch.from_numpy(images.pixels)
        labels = images.labels if model.classes else np.zeros(count, dtype=np.int64)
        dropped = uniform(seed, Stream.LABEL_DROP, step, start, count) < self.config.training.label_dropout
        return (
            pixels.float() / 127.5 - 1,
            torch.from_numpy(np.where(dropped, model.classes, labels)),
            torch.from_numpy(integers(seed, Stream.TIMESTEP, step, start, count, self.config.diffusion.timesteps)),
            torch.from_numpy(normal(seed, Stream.NOISE, step, start, count, tuple(pixels.shape[1:]))),
        )

    def _backward(self, share: Share) -> Losses:
        """Add to the gradients; returns what the share's samples add to the batch's mean losses."""
        x0, y, index, noise = (part.to(self.device) for part in self.batch(self.state.step, *share))
        xt = self.diffusion.add_noise(x0, index, noise)
        bf16 = self.config.training.precision == "bf16"
        with torch.autocast(x0.device.type, dtype=torch.bfloat16) if bf16 else nullcontext():
            output = self.network(xt, index, y)
        losses = self.diffusion.losses(output.float(), x0, xt, index, noise)
        weight = len(x0) / self.config.training.batch
        losses = Losses(*(part.mean() * weight for part in losses))
        (losses.total * self.processes.world_size).backward()
        return Losses(*(part.detach() for part in losses))

    def _settle_order_of_sums(self) -> None:
        """Make a backward pass in vain: after the first one gradients are put together for exchange in another way, so
        that a step would be rounded otherwise in a run that was just taken up than in one that was not killed."""
        first, _ = self.shares[0]
        self._backward((first, 1))
        self.state.optimiser.zero_grad()


def train(
    run: RunDir,
    trainer: Trainer,
    attempt: int,
    milestones: Mapping[int, Collection[str]],
    checkpoint_seconds: float,
    on_step: Callable[[int, float, float], None],
    stop: StopRequest,
) -> None:
    """Train to the last of `milestones` (step -> kinds of weights to keep), from the newest checkpoint.

    Checkpoints are written at every milestone and every `checkpoint_seconds`, by the first of the trainer's processes.
    `on_step` is told step, loss and seconds per step now and then. Raises, in all processes at the same step, Stopped
    once `stop` is set in one of them, Diverged on a loss that is not finite, Superseded when another attempt took
    the run over.
    """
    state, processes = trainer.state, trainer.processes
    state.load_newest(run, processes)
    last = max(milestones)
    saved = started = time.monotonic()
    since = 0
    with run.log(attempt).open("a") if processes.is_rank_zero else nullcontext() as log:
        while state.step < last:
            losses = trainer.step()
            since += 1
            leaving = stop.stopped
            if state.step % LOG_EVERY == 0 or state.step in milestones:
                row = _means(losses, processes)
                if not np.isfinite(row["total"]):
                    raise Diverged(f"loss is {row['total']} at step {state.step}")
                now = time.monotonic()
                seconds = (now - started) / since
                if log:
                    log.write(json.dumps({"step": state.step, **row, "seconds_per_step": seconds}) + "\n")
                started, since = now, 0
                try:
                    on_step(state.step, row["total"], seconds)
                except Superseded as superseded:
                    leaving = superseded
            kinds = milestones.get(state.step, ())
            is_due = bool(kinds) or time.monotonic() - saved > checkpoint_seconds
            if log and is_due:
                leaving = _superseded(run, attempt) or leaving
            if leaving := processes.first_nonempty(leaving):
                leaving = processes.broadcast(_superseded(run, attempt) or leaving)
            if isinstance(leaving, Superseded):
                raise leaving
            if log and (is_due or leaving):
                log.flush()
                for kind in kinds:
                    state.save_weights(run, kind)
                state.save(run, attempt)
                saved = started = time.monotonic()
                since = 0
            if leaving and state.step < last:
                processes.barrier()  # who ends first may be the end of all
                raise leaving.at(state.step)


def _superseded(run: RunDir, attempt: int) -> Superseded | None:
    owner = run.owner()
    return None if owner == attempt else Superseded(f"attempt {owner} owns the run")


def _means(losses: Losses, processes: ProcessGroup) -> dict[str, float]:
    """Over the batch, by name."""
    return dict(zip(Losses._fields, processes.all_reduce_sum([value.item() for value in losses]), strict=True))
