"""Samples of a network: labels and noise by sample index, whatever the batch or the process."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from diffussm.config import Config
from diffussm.diffusion.sampling import Network, guided, make_sampler
from diffussm.errors import NotFinite
from diffussm.rng import Stream, integers, normal
from diffussm.stopping import StopRequest


class Samples(NamedTuple):
    pixels: NDArray[np.uint8]  # (N, C, H, W)
    labels: NDArray[np.int64]  # (N,)


class SampleMaker:
    """Makes samples of the config's seed, each by its index alone: label uniform over the classes, noise by (seed,
    index). With `label`, all of that class."""

    def __init__(
        self,
        config: Config,
        network: Network,
        device: torch.device | str = "cpu",
        label: int | None = None,
        stop: StopRequest | None = None,
    ):
        m, e = config.model, config.evaluation
        self.seed, self.classes, self.label, self.device = config.seed, m.classes, label, device
        self.shape = (m.channels, m.image_size, m.image_size)
        self._sample = make_sampler(config.diffusion, e.sampler, e.sampler_steps, e.clip, device, stop=stop)
        self._network = guided(network, e.guidance, m.classes, e.guidance_channels or m.channels)

    def labels(self, start: int, count: int) -> NDArray[np.int64]:
        """Of samples start .. start + count - 1: (count,)."""
        if self.label is not None:
            return np.full(count, self.label)
        return integers(self.seed, Stream.SAMPLE_LABEL, 0, start, count, max(self.classes, 1))

    @torch.no_grad()
    def __call__(self, start: int, count: int) -> Samples:
        """Samples start .. start + count - 1, in one batch.

        Raises NotFinite, which names the first sample that is not finite, and Stopped once `stop` is set.
        """

        def noise(step: int) -> torch.Tensor:
            drawn = normal(self.seed, Stream.SAMPLE_NOISE, step, start, count, self.shape)
            return torch.from_numpy(drawn).to(self.device)

        labels = self.labels(start, count)
        made = self._sample(self._network, torch.from_numpy(labels).to(self.device), noise)
        return Samples(to_pixels(made, start), labels)


def generate(
    config: Config,
    network: Network,
    count: int,
    device: torch.device | str = "cpu",
    label: int | None = None,
) -> Samples:
    """Samples 0 .. count - 1, in memory, in the evaluation's batches."""
    make, batch = SampleMaker(config, network, device, label), config.evaluation.batch
    parts = [make(start, min(batch, count - start)) for start in range(0, count, batch)]
    return Samples(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def to_pixels(images: torch.Tensor, start: int = 0) -> NDArray[np.uint8]:
    """[-1, 1] -> 0 .. 255; NotFinite naming the first sample, counted from `start`, that is not finite."""
    finite = images.flatten(1).isfinite().all(1)
    if not finite.all():
        raise NotFinite(f"sample {start + int(finite.int().argmin())} is not finite")
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu().numpy()
