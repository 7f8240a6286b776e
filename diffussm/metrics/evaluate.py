"""Evaluation of one network: sample, extract, compare with the reference, in shards that survive a kill."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from diffussm.config import Config
from diffussm.diffusion.sampling import Network
from diffussm.metrics.catalogue import evaluation_key
from diffussm.metrics.sampling import SampleMaker, Samples
from diffussm.metrics.shards import Arrays, Shards, ignore
from diffussm.metrics.yardstick import Yardstick, yardstick
from diffussm.processes import ALONE, Processes


class Evaluation(NamedTuple):
    metrics: dict[str, float]
    shown: Samples  # the first ones


class Evaluator:
    """How a config's network is measured: with what extractor, against what reference, beside what noise floor."""

    SHOWN = 64

    def __init__(self, config: Config, device: torch.device | str = "cpu"):
        e = config.evaluation
        self.config, self.device = config, device
        self.key = evaluation_key(config)
        self.yardstick: Yardstick = yardstick(self.key, e.reference, e.extractor_weights, str(device))

    def __call__(
        self,
        network: Network,
        folder: Path,
        processes: Processes = ALONE,
        progress: Callable[[int], object] = ignore,
    ) -> Evaluation | None:
        """What the network's samples are worth, in the first of the processes; None in the others.

        Samples are made and looked at batch by batch, as shards in `folder`: those that are there already are not made
        again. `progress` is told how many there are.
        """
        make_samples = SampleMaker(self.config, network, self.device)

        def make(start: int, count: int) -> Arrays:
            pixels = make_samples(start, count).pixels
            shown = {"pixels": pixels} if start < self.SHOWN else {}
            return {**self.yardstick.extract(pixels), **shown}

        shards = Shards(folder, self.key.samples, min(self.config.evaluation.batch, self.key.samples))
        shards.make(make, processes, progress)
        if not processes.is_first:
            return None
        metrics = self.yardstick.measure(shards.whole, make_samples.labels(0, self.key.samples))
        shown = min(self.SHOWN, self.key.samples)
        return Evaluation(metrics, Samples(shards.first("pixels", shown), make_samples.labels(0, shown)))

    def measure(self, samples: Samples) -> dict[str, float]:
        """Metrics of samples in memory."""
        layers = self.yardstick.extract(samples.pixels)
        return self.yardstick.measure(layers.__getitem__, samples.labels)
