"""The Frechet distance between Gaussians fitted to two sets of features (Heusel et al. 2017), in float64."""

import functools
import operator
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

BLOCK = 2000  # features converted to float64 at a time
ROUNDING = 1e-6  # of the traces of both covariances


class Statistics(NamedTuple):
    """The parameters of a Gaussian."""

    mean: Array  # (d,)
    covariance: Array  # (d, d), with n - 1 in the denominator

    @classmethod
    def of(cls, features: NDArray[Any]) -> Self:
        """Return the statistics of features (n, d), n >= 2."""
        return cls(*Moments.of(features).statistics)


@dataclass(frozen=True)
class Moments:
    """Count, mean and scatter (sum of outer products of deviations) of features, in float64.

    The moments of two disjoint sets add up to those of their union without approximation (Chan et al. 1979), and can be
    subtracted, so they can be accumulated over batches and over processes.
    """

    count: int
    mean: Array  # (d,)
    scatter: Array  # (d, d)

    @classmethod
    def of(cls, features: NDArray[Any], chosen: NDArray[np.int64] | None = None) -> Self:
        """Return the moments of features (n, d), n >= 1, or of those with the indices `chosen`, `BLOCK` at a time."""
        index = np.arange(len(features)) if chosen is None else chosen
        blocks = (features[index[start : start + BLOCK]] for start in range(0, len(index), BLOCK))
        return cls.sum(cls._of_block(np.asarray(block, dtype=np.float64)) for block in blocks)

    @classmethod
    def _of_block(cls, features: Array) -> Self:
        mean = features.mean(0)
        deviations = features - mean
        return cls(len(features), mean, deviations.T @ deviations)

    @classmethod
    def sum(cls, parts: Iterable[Self]) -> Self:
        """Return the sum of all parts, at least one, added in their order."""
        return functools.reduce(operator.add, parts)

    def __add__(self, other: Self) -> Self:
        count = self.count + other.count
        difference = other.mean - self.mean
        scatter = self.scatter + other.scatter + np.outer(difference, difference) * (self.count * other.count / count)
        return type(self)(count, self.mean + difference * (other.count / count), scatter)

    def __sub__(self, part: Self) -> Self:
        """Return the moments without a part that was added."""
        count = self.count - part.count
        mean = self.mean + (self.mean - part.mean) * (part.count / count)
        difference = part.mean - mean
        scatter = self.scatter - part.scatter - np.outer(difference, difference) * (count * part.count / self.count)
        return type(self)(count, mean, scatter)

    @property
    def statistics(self) -> Statistics:
        """Return the Gaussian's parameters, for at least two features."""
        return Statistics(self.mean, self.scatter / (self.count - 1))


class FrechetDistance:
    """Distances to one Gaussian: |mu - mu_0|^2 + tr(S + S_0 - 2 (S S_0)^(1/2)), in squared units of the features.

    With S_0 = F F^T the trace of the root is the sum of the roots of the eigenvalues of F^T S F, which is symmetric and
    positive semi-definite: no complex arithmetic. F is the Cholesky factor or, if the covariance does not have full
    rank, consists of scaled eigenvectors.
    """

    def __init__(self, to: Statistics):
        self.mean, self.trace = to.mean, float(np.trace(to.covariance))
        self.factor = _factor(to.covariance)

    def __call__(self, statistics: Statistics) -> float:
        product = self.factor.T @ statistics.covariance @ self.factor
        trace_of_root = np.sqrt(np.linalg.eigvalsh((product + product.T) / 2).clip(0)).sum()
        difference = statistics.mean - self.mean
        return float(difference @ difference + np.trace(statistics.covariance) + self.trace - 2 * trace_of_root)

    def rounding(self, statistics: Statistics) -> float:
        """Return how far below zero rounding may take the distance: with singular covariances, and with those stored in
        float32, it takes it less than 4e-8 of the traces (tests/metrics/)."""
        return ROUNDING * float(np.trace(statistics.covariance) + self.trace)


def _factor(covariance: Array) -> NDArray[Any]:
    """Return F such that F F^T is the covariance (d, d)."""
    diagonal = np.diag(covariance)
    try:
        factor = np.linalg.cholesky(covariance)
        if (np.diag(factor) ** 2 > 1e-10 * diagonal).all():  # otherwise it is dominated by rounding
            return factor
    except np.linalg.LinAlgError:
        pass
    values, vectors = np.linalg.eigh(covariance)
    return vectors * np.sqrt(values.clip(0))


def frechet_distance(a: Statistics, b: Statistics) -> float:
    """Return the distance of two Gaussians; see `FrechetDistance`."""
    return FrechetDistance(b)(a)
