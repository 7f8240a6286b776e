"""A metric: what is known of it before it is measured, and which values it can have. No torch."""

import math
from dataclasses import dataclass
from typing import Literal

from diffussm.errors import UserError

LAYERS = ("features", "spatial", "logits")  # of an extractor, in the order in which they are extracted


@dataclass(frozen=True)
class Metric:
    """A metric: its name, its meaning, its requirements and the function that computes it.

    `function` is a `module:function` that takes a diffussm.metrics.statistics.protocol.MetricInputs and returns an
    Estimate. It is imported when the metric is measured, so that this table imports nothing.
    """

    name: str  # in configs, keys, records and tables: must never change
    title: str
    unit: str
    better: Literal["lower", "higher"]
    digits: int  # shown after the point
    meaning: str
    source: str
    layer: str  # the layer that it is computed from: one of LAYERS, or the metric's name if it has its own network
    function: str
    interval: str  # the method of its 95 % interval over samples; "": it has none
    reference: Literal["nothing", "gaussian", "images"] = "nothing"  # "gaussian": it is a Frechet distance
    extractor: Literal["any", "scores", "classifies", "natural images"] = "any"  # the kind of extractor that it needs
    least_samples: int = 1
    least_images: int = 0  # of a reference that is given as images
    needs_labels: bool = False  # whether it needs the requested classes of the samples
    by_default: bool = False  # whether it is measured for external samples if no metrics are named; part of their keys
    least: float = -math.inf  # the smallest value that it can have
    greatest: float = math.inf
    rounding: float = 0.0  # how far rounding may take a value beyond these, unless the function states it
    details: str = ""  # how it is computed with ADM's Inception, or where it differs from other code
    interval_coverage: str = ""  # how often its interval holds the true value, by a simulation in tests/metrics/

    @property
    def has_own_network(self) -> bool:
        """Return whether it is computed from its own network instead of the extractor."""
        return self.layer not in LAYERS

    def possible(self, value: float, rounding: float | None = None) -> float:
        """Return the value, or the nearest one that the metric can have if `rounding` alone may have taken it beyond;
        raise UserError for a value that cannot be."""
        tolerance = self.rounding if rounding is None else rounding
        if math.isfinite(value) and self.least - tolerance <= value <= self.greatest + tolerance:
            return min(max(value, self.least), self.greatest)
        beyond = f" (rounding: {tolerance:.1g})" if tolerance else ""
        raise UserError(f"{self.title} = {value:.6g} is impossible: allowed: {self._range}{beyond}")

    @property
    def _range(self) -> str:
        if math.isfinite(self.greatest):
            return f"{self.least:g} to {self.greatest:g}"
        return f"{self.least:g} or more" if math.isfinite(self.least) else "any finite number"
