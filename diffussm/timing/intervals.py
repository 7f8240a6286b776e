"""Medians with 95 % intervals by order statistics, for times of any distribution.

The rounds must be independent; those of one session are so only as far as the machine is steady.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

MIN_ROUNDS = 6  # fewer have no 95 % interval of the median
CONFIDENCE = 0.95


class Timing(NamedTuple):
    """The median of n rounds and its 95 % interval: of seconds, or of ratios."""

    median: float
    low: float
    high: float
    n: int


def summarise(samples: ArrayLike) -> Timing:
    """Return the median and its interval; ValueError for fewer than six samples, which have no 95 % interval."""
    ordered = np.sort(np.asarray(samples, dtype=float))
    rank = _rank(len(ordered))
    return Timing(float(np.median(ordered)), float(ordered[rank]), float(ordered[-1 - rank]), len(ordered))


def ratio(seconds: Mapping[str, Sequence[float]], numerator: str, denominator: str) -> Timing:
    """Return the median of the ratios within each round, and its interval."""
    return summarise(np.asarray(seconds[numerator]) / np.asarray(seconds[denominator]))


def _rank(n: int) -> int:
    """Return the largest k such that the order statistics k and n - 1 - k, counted from 0, contain the median with 95 %
    confidence: the number of samples below the median is binomial."""
    if n < MIN_ROUNDS:
        raise ValueError(f"{n} rounds: a 95 % interval of the median needs at least {MIN_ROUNDS}")
    rank, below = 0, 1.0
    while 2 * (below + math.comb(n, rank + 1)) <= (1 - CONFIDENCE) * 2**n:
        rank += 1
        below += math.comb(n, rank)
    return rank
