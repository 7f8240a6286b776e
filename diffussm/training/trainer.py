"""One run in memory, and its training step: a function of (config, step), however often the run was interrupted."""

from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor

from diffussm.config import Config
from diffussm.data.load import training_data
from diffussm.diffusion.gaussian import GaussianDiffusion, Losses
from diffussm.diffusion.sampling import training_schedule
from diffussm.distributed.group import SINGLE_PROCESS, ProcessGroup
from diffussm.models.build import build_model
from diffussm.rng import Stream, integers, normal, uniform
from diffussm.training.parallel import MicroBatch, local_micro_batches, no_sync, wrap_ddp
from diffussm.training.state import TrainingState


class Trainer:
    """A run's training state and what updates it: `step` makes one update.

    Each process of several computes its micro-batches of the batch, and all come to the same state. `micro_batches` is
    their number, if that is above the number of processes.
    """

    def __init__(
        self,
        config: Config,
        backend: str,
        device: str = "cpu",
        processes: ProcessGroup = SINGLE_PROCESS,
        micro_batches: int = 1,
    ):
        self.config, self.device, self.processes = config, device, processes
        self.micro_batches = local_micro_batches(config.training.batch, processes, micro_batches)
        self.data = training_data(config.data.name)
        self.diffusion = GaussianDiffusion(training_schedule(config.diffusion), config.diffusion, device)
        self.state = TrainingState(build_model(config, backend).to(device), config.training)
        self.network = wrap_ddp(self.state.model, processes)
        if processes.world_size > 1:
            self._rebuild_ddp_buckets()

    def step(self) -> Losses:
        """Make a forward pass, a backward pass and an update; return the batch's mean losses.

        Of several processes, each returns what its own samples add to these means.
        """
        self.state.optimiser.zero_grad()
        *earlier, last = self.micro_batches
        with no_sync(self.network):
            losses = [self._backward(micro_batch) for micro_batch in earlier]
        losses.append(self._backward(last))
        self.state.optimiser.step()
        self.state.step += 1
        self.state.ema.update(self.state.step)
        return Losses(*(sum(parts[1:], parts[0]) for parts in zip(*losses, strict=True)))

    def batch(self, step: int, start: int = 0, count: int | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return images (B, C, H, W) in [-1, 1], labels, timestep indices and noise of a step, by (seed, step) alone.

        They are those of the whole batch, or of `count` samples from `start` on.
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

    def _backward(self, micro_batch: MicroBatch) -> Losses:
        """Add to the gradients; return what the micro-batch's samples add to the batch's mean losses."""
        x0, y, index, noise = (part.to(self.device) for part in self.batch(self.state.step, *micro_batch))
        xt = self.diffusion.add_noise(x0, index, noise)
        bf16 = self.config.training.precision == "bf16"
        with torch.autocast(x0.device.type, dtype=torch.bfloat16) if bf16 else nullcontext():
            output = self.network(xt, index, y)
        losses = self.diffusion.losses(output.float(), x0, xt, index, noise)
        weight = len(x0) / self.config.training.batch
        losses = Losses(*(part.mean() * weight for part in losses))
        (losses.total * self.processes.world_size).backward()
        return Losses(*(part.detach() for part in losses))

    def _rebuild_ddp_buckets(self) -> None:
        """Make one backward pass and discard its gradients.

        DDP rebuilds its gradient buckets after the first pass, which changes the order of summation; without this, the
        first step of a resumed run would be rounded differently than in an uninterrupted run.
        """
        start, _ = self.micro_batches[0]
        self._backward((start, 1))
        self.state.optimiser.zero_grad()
