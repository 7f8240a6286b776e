"""A metric: what is known of it before it is measured, and which values it can have. No torch."""

import math
from dataclasses import dataclass
from typing import Literal

from diffussm.errors import UserError

UNRELIABLE = "†"  # beside a metric in tables and figures
LAYERS = ("features", "spatial", "logits")  # of an extractor, in the order in which they are extracted

# Sizes of the layers of the package's extractors: how many samples a metric needs depends on them.
_SMALL = {"features": 64, "logits": 10}
LAYER_SIZES = {
    "digits-cnn": {**_SMALL, "spatial": 112},
    "digits16-cnn": {**_SMALL, "spatial": 112},
    "mnist-cnn": {**_SMALL, "spatial": 343},
    "photos-cnn": {"features": 64, "spatial": 448, "logits": 8},
    "inception-v3-compat": {"features": 2048, "spatial": 2023, "logits": 1008},
}


def layer_size(extractor: str, layer: str, stated: str = "") -> int:
    """Return the size of an extractor's layer, 0 if it is not known; `stated` are the `layer=size` of its key."""
    sizes = dict(part.split("=") for part in stated.split() if "=" in part)
    return int(sizes.get(layer, 0)) or LAYER_SIZES.get(extractor, {}).get(layer, 0)


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
    reliable_samples: int = 1  # least n, of samples and of the reference's images, from which on it is reliable
    samples_per_feature: float = 0.0  # the same in multiples of the layer's size
    samples_per_image: float = 0.0  # the same in multiples of the reference's images
    unreliable: str = ""  # what a value from fewer is like, and who says so
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

    def unreliability(self, samples: int, images: int, features: int) -> str:
        """Return why a value from so few samples, or images of the reference, is unreliable; "" if it is not.

        `images` is 0 if the reference has none, and `features`, the size of the layer, if it is not known.
        """
        of_images = self.reliable_samples if self.reference == "images" else 0
        of_samples = (self.reliable_samples, self.samples_per_feature * features, self.samples_per_image * images)
        if samples < (least := math.ceil(max(of_samples))):
            return f"n = {samples:,}, below {least:,}: {self.unreliable}"
        if 0 < images < of_images:
            return f"{images:,} images of the reference, below {of_images:,}: {self.unreliable}"
        return ""

    @property
    def _range(self) -> str:
        if math.isfinite(self.greatest):
            return f"{self.least:g} to {self.greatest:g}"
        return f"{self.least:g} or more" if math.isfinite(self.least) else "any finite number"
