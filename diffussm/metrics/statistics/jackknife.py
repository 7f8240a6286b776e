"""Intervals over samples by the delete-a-group jackknife (Shao and Wu 1989; Kott 2001).

The samples are divided into random groups and the metric is computed without each group in turn; the spread of the
results estimates the variance of the metric at this n. A bootstrap with replacement is unsuitable: its duplicates bias
FID, KID and recall.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from diffussm.rng import Stream, random_words

GROUPS = 20
LEVEL = 0.95


class Interval(NamedTuple):
    low: float
    high: float


def groups_of(count: int) -> NDArray[np.int64]:
    """Return the group, 0 .. G - 1, of each of `count` samples: (count,). Sizes differ by at most one.

    G is 20, or less if groups would have fewer than two samples. The groups are a function of `count`.
    """
    order = np.argsort(random_words(0, Stream.GROUPS, 0, 0, 1, count)[0], kind="stable")
    groups = np.empty(count, dtype=np.int64)
    groups[order] = np.arange(count) % max(1, min(GROUPS, count // 2))
    return groups


def variance(without: Sequence[float] | NDArray[np.float64]) -> float:
    """Return the variance of a metric, from its values without each group in turn."""
    values = np.asarray(without, dtype=np.float64)
    return float((len(values) - 1) * values.var())


def interval(value: float, squared_error: float, groups: int) -> Interval | None:
    """Return the 95 % interval by Student's t; None for fewer than two groups, which have no spread."""
    if groups < 2:
        return None
    half = float(stdtrit(groups - 1, (1 + LEVEL) / 2)) * squared_error**0.5
    return Interval(value - half, value + half)


def wilson_interval(share: float, count: float) -> Interval:
    """Return the 95 % interval of a share of `count` independent samples (Wilson 1927), also valid near 0 and 1."""
    z = float(ndtri((1 + LEVEL) / 2))
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * (share * (1 - share) / count + z**2 / (4 * count**2)) ** 0.5
    return Interval(max(0.0, centre - half), min(1.0, centre + half))
