"""What samples are measured with: extractor and reference, loaded once; layers in, metrics out."""

from collections.abc import Callable
from functools import cache, cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from diffussm.errors import NotFinite, UserError
from diffussm.metric_table import CLEAN_FID, FRECHET
from diffussm.metrics.features.extractor import Extractor, Layers, layers_of
from diffussm.metrics.reference.statistics import Reference
from diffussm.metrics.statistics.fid import frechet_metrics
from diffussm.metrics.statistics.frechet import BLOCK, FrechetDistance
from diffussm.metrics.statistics.jackknife import Interval, of_share
from diffussm.store.records import EvaluationKey


class Yardstick:
    """The metrics of `key`, against its reference, given by name or file. `weights` are the extractor's, a path."""

    def __init__(self, key: EvaluationKey, reference: str, weights: str = "", device: torch.device | str = "cpu"):
        self.key = key
        self.extractor = Extractor(key.extractor, layers_of(key.metrics), weights, device)
        self.second = _second_opinion(key, weights, device)
        self.reference = Reference(reference, key, self.extractor, self.second)

    @cached_property
    def distances(self) -> dict[str, FrechetDistance]:
        """To the reference, of the metrics that are Frechet distances."""
        return {metric: self.reference.distance(metric) for metric in FRECHET if metric in self.key.metrics}

    @cached_property
    def floors(self) -> dict[str, float | None]:
        return {metric: self.reference.floor(metric) for metric in self.distances}

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of all that is extracted."""
        return *self.extractor.layers, *(self.second.networks if self.second else ())

    def load_reference(self) -> None:
        """Before samples are made, so that what is wrong with it shows at once."""
        self._refuse_other_sizes()
        _ = self.distances, self.floors
        if {"kid", "precision", "recall"} & set(self.key.metrics) or self.second:
            _ = self.reference.layers

    def _refuse_other_sizes(self) -> None:
        """Raise UserError where a reference's statistics are of more or fewer features than the extractor gives."""
        side = self.extractor.facts.image_size or 32
        for layer, found in self.extractor(np.zeros((1, self.extractor.facts.channels, side, side), np.uint8)).items():
            stated = self.reference.stated_size(layer)
            if stated not in (None, found.shape[1]):
                raise UserError(
                    f"evaluation.reference = {self.reference.reference}: its statistics are of {stated} features, "
                    f"{self.key.extractor} gives {found.shape[1]}"
                )

    def extract(self, pixels: NDArray[np.uint8]) -> Layers:
        """All that the metrics are computed from, of pixels (N, C, H, W)."""
        return self.extractor(pixels) | (self.second(pixels) if self.second else {})

    def measure(self, layer: Callable[[str], NDArray[Any]], labels: NDArray[np.int64] | None) -> dict[str, float]:
        """Metrics with their intervals; `layer` gives a layer of all samples by name and is asked for one after the
        other, so that no two need be held. `labels` (n,) are the classes that samples were asked for.

        NotFinite naming the first sample with a feature that is not finite.
        """
        metrics: dict[str, float] = {}
        of_layer = {"features": self._of_features, "spatial": self._of_spatial}
        for name in self.extractor.layers:
            x = _finite(name, layer(name))
            metrics |= self._of_logits(x, labels) if name == "logits" else of_layer[name](x)
        if self.second:
            for name in self.second.networks:
                metrics[name] = self.second.distance(_finite(name, layer(name)), self.reference.layers[name])
        return metrics

    def _of_features(self, x: NDArray[Any]) -> dict[str, float]:
        asked, out = set(self.key.metrics), self._frechet("fid", x)
        if "kid" in asked:
            from diffussm.metrics.statistics.kid import kernel_distance  # torch-fidelity takes seconds to import

            out |= _with_interval("kid", *kernel_distance(x, self.reference.layers["features"]))
        if {"precision", "recall"} & asked:
            from diffussm.metrics.statistics.precision_recall import precision_recall, recall_interval

            precision, recall = precision_recall(x, self.reference.layers["features"])
            if "precision" in asked:
                out |= _with_interval("precision", precision, of_share(precision, len(x)))
            if "recall" in asked:
                found = recall_interval(recall, x, self.reference.layers["features"])
                out |= _with_interval("recall", recall, found)
        return out

    def _of_spatial(self, x: NDArray[Any]) -> dict[str, float]:
        return self._frechet("sfid", x)

    def _of_logits(self, x: NDArray[Any], labels: NDArray[np.int64] | None) -> dict[str, float]:
        out: dict[str, float] = {}
        if "inception_score" in self.key.metrics:
            from diffussm.metrics.statistics.inception_score import inception_score

            out |= _with_interval("inception_score", *inception_score(x))
        if "label_accuracy" in self.key.metrics:
            assert labels is not None
            share = float((x.argmax(1) == labels).mean())
            out |= _with_interval("label_accuracy", share, of_share(share, len(x)))
        return out

    def _frechet(self, metric: str, x: NDArray[Any]) -> dict[str, float]:
        if metric not in self.distances:
            return {}
        return frechet_metrics(metric, x, self.distances[metric], self.floors[metric])


def _with_interval(metric: str, value: float, interval: Interval | None) -> dict[str, float]:
    if interval is None:
        return {metric: value}
    return {metric: value, f"{metric}_samples_low": interval.low, f"{metric}_samples_high": interval.high}


def _second_opinion(key: EvaluationKey, weights: str, device: torch.device | str):  # type: ignore[no-untyped-def]
    if not set(CLEAN_FID) & set(key.metrics):
        return None
    from diffussm.metrics.features.clean_fid import CleanFid

    return CleanFid(key.metrics, weights, device)


def _finite(name: str, features: NDArray[Any]) -> NDArray[Any]:
    for start in range(0, len(features), BLOCK):
        finite = np.isfinite(features[start : start + BLOCK]).all(1)
        if not finite.all():
            raise NotFinite(f"sample {start + int(finite.argmin())}: its {name} are not finite")
    return features


@cache
def yardstick(key: EvaluationKey, reference: str, weights: str, device: str) -> Yardstick:
    """Made once in a process, however many runs it evaluates."""
    return Yardstick(key, reference, weights, device)
