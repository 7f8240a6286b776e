"""Intervals that hold the median as often as they say."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from diffussm import timing


def test_ratio_is_of_one_round() -> None:
    fast = [1.0, 10.0, 100.0, 1.0, 10.0, 100.0]
    found = timing.ratio({"slow": [2 * seconds for seconds in fast], "fast": fast}, "slow", "fast")
    assert found == (2.0, 2.0, 2.0, 6)


@pytest.mark.parametrize(("n", "rank"), [(6, 0), (8, 0), (9, 1), (25, 7), (100, 39)])
def test_ranks_are_those_of_the_tables(n: int, rank: int) -> None:
    """As in Conover's tables of the sign test."""
    found = timing.summarise(np.random.default_rng(0).permutation(n))
    assert (found.low, found.high) == (rank, n - 1 - rank)


@pytest.mark.parametrize("n", [6, 9, 25])
@pytest.mark.parametrize("draw", ["exponential", "standard_normal"])
def test_intervals_hold_the_median(n: int, draw: str) -> None:
    """At 95 % at least, whatever the distribution; of 4,000 draws, less three standard errors."""
    generator, truth = np.random.default_rng(n), {"exponential": math.log(2), "standard_normal": 0.0}[draw]
    sample: Callable[..., np.ndarray] = getattr(generator, draw)
    found = [timing.summarise(sample(size=n)) for _ in range(4000)]
    held = np.mean([one.low <= truth <= one.high for one in found])
    assert held > 0.95 - 3 * (0.95 * 0.05 / 4000) ** 0.5


def test_too_few_rounds_have_no_interval() -> None:
    with pytest.raises(ValueError, match="5 rounds: a 95 % interval of the median needs at least 6"):
        timing.summarise([1.0] * 5)
