"""What a metric's function takes and returns: `function(inputs: MetricInputs) -> Estimate`."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from diffussm.metrics.statistics.frechet import FrechetDistance
from diffussm.metrics.statistics.jackknife import Interval

T = TypeVar("T")


class Estimate(NamedTuple):
    """A metric's value at n samples, and what is known of it."""

    value: float
    interval: Interval | None = None  # 95 % over samples
    floor: float | None = None  # what real images score at this n
    infinity: float | None = None  # extrapolated to infinitely many samples

    def entries(self, name: str) -> dict[str, float]:
        """Its entries in a record, below `name`."""
        low, high = self.interval or (None, None)
        beside = {"floor": self.floor, "samples_low": low, "samples_high": high, "infinity": self.infinity}
        known = {f"{name}_{suffix}": value for suffix, value in beside.items() if value is not None}
        return {name: self.value, **known}


class ReferenceLayer(Protocol):
    """One layer of the reference; each property is computed when it is first asked for."""

    @property
    def features(self) -> NDArray[np.float32]:
        """The layer of the reference's images (m, d)."""
        ...

    @property
    def distance(self) -> FrechetDistance:
        """Frechet distances to the reference's Gaussian."""
        ...

    @property
    def floor(self) -> float | None:
        """The Frechet distance of real images at this n; None where the reference has too few to tell."""
        ...


class MetricInputs:
    """One layer of all samples, and of the reference: what the metrics of that layer are computed from."""

    def __init__(self, samples: NDArray[Any], reference: ReferenceLayer, labels: NDArray[np.int64] | None = None):
        self.samples = samples  # (n, d)
        self.reference = reference
        self.labels = labels  # (n,) the classes that samples were asked for, where the data has any
        self._shared: dict[Callable[..., Any], Any] = {}

    def shared(self, compute: Callable[[NDArray[Any], NDArray[np.float32]], T]) -> T:
        """compute(samples, the reference's features), called once for all metrics of this layer that ask for it."""
        if compute not in self._shared:
            self._shared[compute] = compute(self.samples, self.reference.features)
        result: T = self._shared[compute]
        return result
