"""The interface of a metric's function: `function(inputs: MetricInputs) -> Estimate`."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from diffussm.metric import Metric
from diffussm.metrics.statistics.frechet import FrechetDistance
from diffussm.metrics.statistics.jackknife import Interval

T = TypeVar("T")
Device: TypeAlias = "torch.device | str"


class Estimate(NamedTuple):
    """A metric's value at n samples, with its interval and, for Frechet distances, its floor and extrapolation."""

    value: float
    interval: Interval | None = None  # 95 % over samples
    floor: float | None = None  # the value of real images at this n
    infinity: float | None = None  # extrapolated to infinitely many samples
    rounding: float | None = None  # how far it may lie beyond what is possible; None: as in the table of metrics

    def entries(self, metric: Metric) -> dict[str, float]:
        """Return its entries in a record, whose names begin with the metric's; raise UserError for a value or a floor
        that the metric cannot have. One beyond the metric's range by rounding alone becomes the end of the range."""
        low, high = self.interval or (None, None)
        floor = None if self.floor is None else metric.possible(self.floor, self.rounding)
        companions = {"floor": floor, "samples_low": low, "samples_high": high, "infinity": self.infinity}
        known = {f"{metric.name}_{suffix}": value for suffix, value in companions.items() if value is not None}
        return {metric.name: metric.possible(self.value, self.rounding), **known}


class ReferenceLayer(Protocol):
    """One layer of the reference; each property is computed on first use."""

    @property
    def features(self) -> NDArray[np.float32]:
        """Return the layer of the reference's images (m, d)."""
        ...

    @property
    def distance(self) -> FrechetDistance:
        """Return the function that gives Frechet distances to the reference's Gaussian."""
        ...

    @property
    def floor(self) -> float | None:
        """Return the Frechet distance of real images at this n; None if the reference has fewer than two images."""
        ...


class MetricInputs:
    """One layer of all samples and of the reference, from which the metrics of that layer are computed."""

    def __init__(
        self,
        samples: NDArray[Any],
        reference: ReferenceLayer,
        labels: NDArray[np.int64] | None = None,
        device: Device = "cpu",
    ):
        self.samples = samples  # (n, d)
        self.reference = reference
        self.labels = labels  # (n,) the requested classes, if the data has any
        self.device = device  # on which distances and kernels are computed
        self._shared: dict[Callable[..., Any], Any] = {}

    def shared(self, compute: Callable[[NDArray[Any], NDArray[np.float32], Device], T]) -> T:
        """Return compute(samples, the reference's features, device), called once for all metrics of this layer that use
        it."""
        if compute not in self._shared:
            self._shared[compute] = compute(self.samples, self.reference.features, self.device)
        result: T = self._shared[compute]
        return result
