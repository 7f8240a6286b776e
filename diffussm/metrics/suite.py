"""A set of metrics with its extractor and reference, which are loaded once: layers in, metrics out."""

import importlib
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from diffussm.config import EvaluationConfig
from diffussm.errors import UserError
from diffussm.metric import Metric
from diffussm.metric_table import CLEAN_FID, METRICS, layers_of
from diffussm.metrics.features.extractor import Extractor, Layers
from diffussm.metrics.reference.statistics import Reference
from diffussm.metrics.statistics.finite import finite
from diffussm.metrics.statistics.protocol import Estimate, MetricInputs
from diffussm.store.records import EvaluationKey


class MetricSuite:
    """The metrics of `key`, measured by the extractor and against the reference that the evaluation names."""

    def __init__(self, evaluation: EvaluationConfig, key: EvaluationKey, device: torch.device | str = "cpu"):
        self.key, self.device = key, device
        self.metrics = [METRICS[name] for name in METRICS if name in key.metrics]
        self.extractor = Extractor(evaluation.extractor, layers_of(key.metrics), evaluation.extractor_weights, device)
        self.clean_fid = _clean_fid(key, evaluation.extractor_weights, device)
        self.reference = Reference(evaluation.reference, key, self.extractor, self.clean_fid)

    @property
    def layers(self) -> tuple[str, ...]:
        """Return the names of all layers that are extracted."""
        return *self.extractor.layers, *(self.clean_fid.networks if self.clean_fid else ())

    def load_reference(self) -> None:
        """Load and check the reference; called before samples are made, so that its faults show at once."""
        self._check_sizes()
        layers = [self.reference.layer(metric.layer) for metric in self.metrics if metric.reference == "gaussian"]
        _ = [layer.distance for layer in layers], [layer.floor for layer in layers]
        if any(metric.reference == "images" for metric in self.metrics):
            _ = self.reference.layers

    def _check_sizes(self) -> None:
        """Raise UserError if the reference's statistics have another number of features than the extractor gives."""
        side = self.extractor.facts.image_size or 32
        for layer, found in self.extractor(np.zeros((1, self.extractor.facts.channels, side, side), np.uint8)).items():
            stated = self.reference.stated_size(layer)
            if stated not in (None, found.shape[1]):
                raise UserError(
                    f"evaluation.reference = {self.reference.reference}: its statistics have {stated} features, "
                    f"but {self.key.extractor} gives {found.shape[1]}"
                )

    def extract(self, pixels: NDArray[np.uint8]) -> Layers:
        """Return all layers of pixels (N, C, H, W) from which the metrics are computed."""
        return self.extractor(pixels) | (self.clean_fid(pixels) if self.clean_fid else {})

    def measure(self, layer: Callable[[str], NDArray[Any]], labels: NDArray[np.int64] | None) -> dict[str, float]:
        """Return the metrics with their intervals. `layer` returns a layer of all samples by name; it is called for one
        layer after the other, so that only one is in memory. `labels` (n,) are the requested classes of the samples.

        NotFinite names the first sample with a feature that is not finite; UserError a value that cannot be.
        """
        out: dict[str, float] = {}
        for name in self.layers:
            inputs = MetricInputs(
                finite(layer(name), f"its {name}", "sample"), self.reference.layer(name), labels, self.device
            )
            for metric in self.metrics:
                if metric.layer == name:
                    out |= _function(metric)(inputs).entries(metric)
        return out

    def measure_images(self, pixels: NDArray[np.uint8], labels: NDArray[np.int64] | None) -> dict[str, float]:
        """Return the metrics of images (N, C, H, W) in memory."""
        return self.measure(self.extract(pixels).__getitem__, labels)


def _function(metric: Metric) -> Callable[[MetricInputs], Estimate]:
    """Return the metric's function, imported on first use: torch-fidelity, which some need, takes seconds to import."""
    module, _, name = metric.function.partition(":")
    function: Callable[[MetricInputs], Estimate] = getattr(importlib.import_module(module), name)
    return function


def _clean_fid(  # type: ignore[no-untyped-def]
    key: EvaluationKey, extractor_weights: str, device: torch.device | str
):
    if not set(CLEAN_FID) & set(key.metrics):
        return None
    from diffussm.metrics.features.clean_fid import CleanFid

    return CleanFid(key.metrics, extractor_weights, device)


@cache
def metric_suite(evaluation: EvaluationConfig, key: EvaluationKey, device: str = "cpu") -> MetricSuite:
    """Return the suite, which is made once in a process, however many runs it evaluates."""
    return MetricSuite(evaluation, key, device)
