"""Medians with their 95 % interval by order statistics, of times of any distribution.

The rounds must be independent: those of one session are so only as far as the machine is steady.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

FEWEST = 6  # rounds that have a 95 % interval of the median
CONFIDENCE = 0.95


class Timing(NamedTuple):
    """Median of n rounds and its 95 % interval, in seconds or, of ratios, in 1."""

    median: float
    low: float
    high: float
    n: int


def summarise(samples: ArrayLike) -> Timing:
    """ValueError for fewer than six samples, whose median has no 95 % interval."""
    ordered = np.sort(np.asarray(samples, dtype=float))
    rank = _rank(len(ordered))
    return Timing(float(np.median(ordered)), float(ordered[rank]), float(ordered[-1 - rank]), len(ordered))


def ratio(seconds: Mapping[str, Sequence[float]], numerator: str, denominator: str) -> Timing:
    """Of the ratios within each round."""
    return summarise(np.asarray(seconds[numerator]) / np.asarray(seconds[denominator]))


def _rank(n: int) -> int:
    """The greatest k such that samples k and n - 1 - k, counted from 0 in order, hold the median at 95 %: how many of
    n samples lie below it is binomial."""
    if n < FEWEST:
        raise ValueError(f"{n} rounds: the median's 95 % interval needs {FEWEST}")
    rank, below = 0, 1.0
    while 2 * (below + math.comb(n, rank + 1)) <= (1 - CONFIDENCE) * 2**n:
        rank += 1
        below += math.comb(n, rank)
    return rank
