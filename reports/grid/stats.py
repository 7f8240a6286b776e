"""Means over seeds with their Student-t intervals, and paired differences."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

LEAST_SEEDS = 3  # of an interval that is told from the others: of two, Student's t has one degree of freedom


class Interval(NamedTuple):
    """The mean of n values with its 95 % interval; the bounds are NaN for n < 2."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2


def t_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Return the Student-t interval of the mean of independent values (seeds)."""
    x = np.asarray(values, dtype=float)
    n, mean = len(x), float(np.mean(x)) if len(x) else math.nan
    if n < 2:
        return Interval(mean, math.nan, math.nan, n)
    half = float(stats.t.ppf((1 + level) / 2, n - 1) * np.std(x, ddof=1) / math.sqrt(n))
    return Interval(mean, mean - half, mean + half, n)


def paired_difference(a: ArrayLike, b: ArrayLike, level: float = 0.95) -> Interval:
    """Return the interval of the mean of a - b over seeds. Arms with the same seed share data order and noise, so they
    are paired."""
    return t_interval(np.asarray(a, dtype=float) - np.asarray(b, dtype=float), level)
