"""What a run trains on: images, labels, timesteps and noise, each a function of (seed, step, sample) alone."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffussm.config import Config
from diffussm.data.images import TrainingData
from diffussm.rng import Stream, integers, normal, uniform
from diffussm.training.parallel import MicroBatch


class Batch(NamedTuple):
    """Samples of one step."""

    images: Tensor  # (B, C, H, W) in [-1, 1]
    labels: Tensor
    timesteps: Tensor
    noise: Tensor

    def to(self, device: str) -> "Batch":
        """Return the batch on a device; a copy from pinned memory is not waited for."""
        return Batch(*(part.to(device, non_blocking=True) for part in self))

    def pinned(self, device: str) -> "Batch":
        """Return the batch in memory from which a GPU can copy while it computes."""
        with torch.cuda.device(device):  # other threads begin at GPU 0
            return Batch(*(part.pin_memory() for part in self))


def scaled(values: NDArray[np.uint8] | NDArray[np.float32]) -> NDArray[np.float32]:
    """Return pixels 0 .. 255 as numbers in [-1, 1]; other values as they are."""
    if values.dtype != np.uint8:
        return values.astype(np.float32, copy=False)
    out = np.divide(values, np.float32(127.5), dtype=np.float32)
    out -= 1
    return out


class Batches:
    """The batches of a run. No torch operator computes them: a second thread that calls one has its own pool of
    threads."""

    def __init__(self, config: Config, data: TrainingData):
        self._config, self._data = config, data

    def draw(self, step: int, start: int = 0, count: int | None = None) -> Batch:
        """Return the batch of a step, or `count` of its samples from `start` on."""
        seed, size, classes = self._config.seed, self._config.training.batch, self._config.model.classes
        count = size - start if count is None else count
        values, labels = self._data.batch(seed, step, size, start, count)
        if not classes:
            labels = np.zeros(count, dtype=np.int64)
        dropped = uniform(seed, Stream.LABEL_DROP, step, start, count) < self._config.training.label_dropout
        return Batch(
            torch.from_numpy(scaled(values)),
            torch.from_numpy(np.where(dropped, classes, labels)),
            torch.from_numpy(integers(seed, Stream.TIMESTEP, step, start, count, self._config.diffusion.timesteps)),
            torch.from_numpy(normal(seed, Stream.NOISE, step, start, count, tuple(values.shape[1:]))),
        )


def micro_batch_maker(batches: Batches, micro_batches: Sequence[MicroBatch], device: str) -> Callable[[int], Batch]:
    """Return what makes the micro-batches of a process, counted through all steps; pinned if they go to a GPU."""

    def make(position: int) -> Batch:
        step, number = divmod(position, len(micro_batches))
        batch = batches.draw(step, *micro_batches[number])
        return batch.pinned(device) if device.startswith("cuda") else batch

    return make
