"""The length at which two curves cross, of known curves."""

import numpy as np
import pytest

from reports.bench.crossover import crossover

LENGTHS = np.array([256, 1024, 4096])


def test_crossover_of_power_laws() -> None:
    """The crossover of powers of the length is exact, whatever the points."""
    assert crossover(LENGTHS, LENGTHS**2 / 900, LENGTHS) == pytest.approx(900)
    assert crossover(LENGTHS, LENGTHS / 1024, [1, 1, 1]) == pytest.approx(1024)
    assert crossover([10, 100], [1, 100], [10, 10]) == pytest.approx(10**1.5)


def test_the_last_crossing_counts() -> None:
    """Earlier crossings, after which the curve falls below again, do not count."""
    assert crossover([1, 10, 100, 1000], [2, 0.1, 0.1, 10], [1, 1, 1, 1]) == pytest.approx(100 * 10**0.5)


@pytest.mark.parametrize(
    "rising", [[2, 3, 4], [0.1, 0.2, 0.3], [0.5, 2, 0.5], [0.5, 0.5, 1]], ids=["above", "below", "back", "touches"]
)
def test_no_crossover_outside_the_points(rising: list[float]) -> None:
    assert crossover(LENGTHS, rising, [1, 1, 1]) is None


def test_no_crossover_without_points() -> None:
    assert crossover([], [], []) is None
