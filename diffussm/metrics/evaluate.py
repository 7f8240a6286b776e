"""Evaluation of one network: sample, extract, compare with the reference, in shards that survive a kill."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from diffussm.config import Config
from diffussm.diffusion.sampling import Network
from diffussm.distributed.group import SINGLE_PROCESS, ProcessGroup
from diffussm.metrics.key import evaluation_key
from diffussm.metrics.sampling import SampleMaker, Samples
from diffussm.metrics.shards import Arrays, Shards, ignore, never
from diffussm.metrics.suite import MetricSuite, metric_suite
from diffussm.stopping import StopRequest


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
        self.suite: MetricSuite = metric_suite(self.key, e.reference, e.extractor_weights, str(device))

    def __call__(
        self,
        network: Network,
        folder: Path,
        processes: ProcessGroup = SINGLE_PROCESS,
        progress: Callable[[int], object] = ignore,
        is_done: Callable[[], bool] = never,
        stop: StopRequest | None = None,
    ) -> Evaluation | None:
        """What the network's samples are worth, in the first of the processes; None in the others, and where `is_done`
        says that another was faster.

        Samples are made and looked at batch by batch, as shards in `folder`: those that are there already are not made
        again. `progress` is told how many there are. Raises Stopped between steps of the sampler once `stop` is set.
        """
        if processes.is_rank_zero:
            self.suite.load_reference()
        make_samples = SampleMaker(self.config, network, self.device, stop=stop)

        def make(start: int, count: int) -> Arrays:
            pixels = make_samples(start, count).pixels
            return {**self.suite.extract(pixels), "pixels": pixels[: max(self.SHOWN - start, 0)]}

        count = self.key.samples
        arrays = (*self.suite.layers, "pixels")
        shards = Shards(folder, count, min(self.config.evaluation.batch, count), arrays)

        def merge() -> Evaluation:
            shown = min(self.SHOWN, count)
            samples = Samples(shards.first("pixels", shown), make_samples.labels(0, shown))
            return Evaluation(self.suite.measure(shards.whole, make_samples.labels(0, count)), samples)

        return shards.merged(make, merge, processes, progress, is_done)

    def measure(self, samples: Samples) -> dict[str, float]:
        """Metrics of samples in memory."""
        layers = self.suite.extract(samples.pixels)
        return self.suite.measure(layers.__getitem__, samples.labels)
