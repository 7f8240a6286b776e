"""Evaluation of one network: draw labels and noise by sample index, sample, extract, compare with the reference."""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from diffussm.config import Config
from diffussm.data.load import reference_images
from diffussm.diffusion.sampling import Network, guided, make_sampler
from diffussm.metrics.catalogue import evaluation_key
from diffussm.metrics.extractors import Extractor, load_extractor
from diffussm.metrics.frechet import Statistics, frechet_distance
from diffussm.rng import Stream, integers, normal

FLOOR_DRAWS = 20


def ignore(samples_done: int) -> None:
    """No progress shown."""


class Samples(NamedTuple):
    pixels: NDArray[np.uint8]  # (N, C, H, W)
    labels: NDArray[np.int64]  # (N,)


class Yardstick(NamedTuple):
    """What samples are held against."""

    extractor: Extractor
    reference: Statistics
    floor: float


@cache
def yardstick(extractor: str, sha256: str, reference: str, samples: int) -> Yardstick:
    """Made once in a process, however many runs it evaluates."""
    loaded = load_extractor(extractor, sha256)
    features = loaded(reference_images(reference).pixels).features
    return Yardstick(loaded, Statistics.of(features), noise_floor(features, samples))


class Evaluator:
    """How a config's network is measured: with what extractor, against what reference, beside what noise floor."""

    def __init__(self, config: Config, device: torch.device | str = "cpu"):
        self.config, self.device = config, device
        self.key = evaluation_key(config)
        self.extractor, self.reference, self.floor = yardstick(
            self.key.extractor, self.key.extractor_sha256, self.key.reference, self.key.samples
        )

    def __call__(
        self, network: Network, progress: Callable[[int], object] = ignore
    ) -> tuple[dict[str, float], Samples]:
        """Metrics and the samples they were measured on; `progress` is told the number of samples made so far."""
        samples = generate(self.config, network, self.key.samples, self.device, progress)
        return self.measure(samples), samples

    def measure(self, samples: Samples) -> dict[str, float]:
        extracted = self.extractor(samples.pixels)
        metrics: dict[str, float] = {}
        if "fid" in self.key.metrics:
            metrics["fid"] = frechet_distance(Statistics.of(extracted.features), self.reference)
            metrics["fid_floor"] = self.floor
        if "label_accuracy" in self.key.metrics:
            metrics["label_accuracy"] = float((extracted.logits.argmax(1) == samples.labels).mean())
        return metrics


def noise_floor(reference: NDArray[np.float64], samples: int) -> float:
    """FID of `samples` real images, drawn with replacement, against all of them: the mean of 20 draws.

    What a perfect generator would score at this n: the bias of a finite sample and nothing else.
    """
    whole = Statistics.of(reference)
    draws = (integers(0, Stream.FLOOR, draw, 0, samples, len(reference)) for draw in range(FLOOR_DRAWS))
    return float(np.mean([frechet_distance(Statistics.of(reference[index]), whole) for index in draws]))


@torch.no_grad()
def generate(
    config: Config,
    network: Network,
    count: int,
    device: torch.device | str = "cpu",
    progress: Callable[[int], object] = ignore,
    label: int | None = None,
) -> Samples:
    """Samples 0 .. count - 1 of the config's seed: labels uniform over the classes, noise by (seed, index) alone.

    With `label`, all of that class.
    """
    m, e = config.model, config.evaluation
    sample = make_sampler(config.diffusion, e.sampler, e.sampler_steps, e.clip, device)
    network = guided(network, e.guidance, m.classes, e.guidance_channels or m.channels)
    shape = (m.channels, m.image_size, m.image_size)
    labels = integers(config.seed, Stream.SAMPLE_LABEL, 0, 0, count, max(m.classes, 1))
    if label is not None:
        labels = np.full(count, label)
    batches = []
    for start in range(0, count, e.batch):
        size = min(e.batch, count - start)

        def noise(step: int, start: int = start, size: int = size) -> torch.Tensor:
            drawn = normal(config.seed, Stream.SAMPLE_NOISE, step, start, size, shape)
            return torch.from_numpy(drawn).to(device)

        y = torch.from_numpy(labels[start : start + size]).to(device)
        batches.append(to_pixels(sample(network, y, noise), start))
        progress(start + size)
    return Samples(np.concatenate(batches), labels)


def to_pixels(images: torch.Tensor, start: int = 0) -> NDArray[np.uint8]:
    """[-1, 1] -> 0 .. 255; ValueError naming the first sample, counted from `start`, that is not finite."""
    finite = images.flatten(1).isfinite().all(1)
    if not finite.all():
        raise ValueError(f"sample {start + int(finite.int().argmin())} is not finite")
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu().numpy()
