"""Sampling from a network. Labels and noise depend on the index of the sample, not on the batch or the process."""

from contextlib import closing
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from diffussm.config import Config
from diffussm.diffusion.sampling import Network, guided, make_sampler
from diffussm.host.read_ahead import ReadAhead
from diffussm.metrics.decoding.decoder import make_decoder
from diffussm.metrics.decoding.pixels import check_finite, to_pixels
from diffussm.precision import autocast, products
from diffussm.rng import Stream, integers, normal
from diffussm.stopping import StopRequest

DRAWERS = 4  # threads that draw noise while a GPU computes


class Samples(NamedTuple):
    pixels: NDArray[np.uint8]  # (N, C, H, W)
    labels: NDArray[np.int64]  # (N,)


class SampleMaker:
    """Makes the samples of the config's seed; each depends on its index alone.

    `labels` are those of all samples, by default as the evaluation says: drawn uniformly from the classes, or sample i
    of class i mod classes; the noise is drawn by (seed, index). Latents are decoded to images of `shape`.
    """

    def __init__(
        self,
        config: Config,
        network: Network,
        device: torch.device | str = "cpu",
        labels: NDArray[np.int64] | None = None,
        stop: StopRequest | None = None,
    ):
        m, e = config.model, config.evaluation
        self.seed, self.classes, self.device, self._labels = config.seed, m.classes, device, labels
        self._balanced = e.labels == "balanced"
        self._noise_shape = (m.channels, m.image_size, m.image_size)
        self.shape, self._decode = make_decoder(config, device)
        self._sample = make_sampler(
            config.diffusion, e.sampler, e.sampler_steps, e.clip, device, stop=stop, ddim_eta=e.ddim_eta
        )
        adds_noise = e.sampler == "ddpm" or e.ddim_eta > 0
        self._on_gpu = torch.device(device).type == "cuda"
        self._ahead = DRAWERS if adds_noise and self._on_gpu else 0  # draws ahead of a GPU; on a CPU they would compete
        computed = in_precision(network, e.precision)
        self._network = guided(computed, e.guidance, m.classes, e.guidance_channels or m.channels)

    def labels(self, start: int, count: int) -> NDArray[np.int64]:
        """Return the labels of samples start .. start + count - 1: (count,)."""
        if self._labels is not None:
            return self._labels[start : start + count]
        if self._balanced:
            return np.arange(start, start + count) % self.classes
        return integers(self.seed, Stream.SAMPLE_LABEL, 0, start, count, max(self.classes, 1))

    @torch.no_grad()
    def __call__(self, start: int, count: int) -> Samples:
        """Return samples start .. start + count - 1, made in one batch.

        Raises NotFinite, which names the first sample that is not finite, and Stopped once `stop` is set.
        """

        def drawn(step: int) -> torch.Tensor:
            noise = torch.from_numpy(normal(self.seed, Stream.SAMPLE_NOISE, step, start, count, self._noise_shape))
            return noise.pin_memory() if self._on_gpu else noise

        labels = self.labels(start, count)
        with closing(ReadAhead(drawn, self._ahead, threads=DRAWERS)) as noises:
            sampled = self._sample(
                self._network,
                torch.from_numpy(labels).to(self.device),
                lambda step: noises.get(step).to(self.device, non_blocking=True),
            )
        check_finite(sampled, start)
        return Samples(to_pixels(self._decode(sampled), start), labels)


def in_precision(network: Network, precision: str) -> Network:
    """Return the network computed in float32, tf32 or bf16; what it takes and gives stays as it is, float32."""

    def call(x: torch.Tensor, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        with products(tf32=precision != "float32"), autocast(precision, x.device):
            return network(x, t, y).to(x.dtype)

    return call


def generate(
    config: Config,
    network: Network,
    count: int,
    device: torch.device | str = "cpu",
    labels: NDArray[np.int64] | None = None,
) -> Samples:
    """Return samples 0 .. count - 1, made in batches of the evaluation's size."""
    make, batch = SampleMaker(config, network, device, labels), config.evaluation.batch
    parts = [make(start, min(batch, count - start)) for start in range(0, count, batch)]
    return Samples(*(np.concatenate(part) for part in zip(*parts, strict=True)))
