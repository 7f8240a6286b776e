"""Intervals over seeds against SciPy."""

import numpy as np
import pytest
from scipy import stats as scipy_stats

from reports.grid.stats import paired_difference, t_interval


def test_t_interval_against_scipy() -> None:
    values = [3.0, 4.5, 2.2, 3.9]
    low, high = scipy_stats.t.interval(0.95, 3, np.mean(values), scipy_stats.sem(values))
    found = t_interval(values)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert found.half_width == pytest.approx((high - low) / 2)
    assert paired_difference(values, values).mean == 0


def test_t_interval_covers() -> None:
    draws = np.random.default_rng(0).normal(5, 2, size=(2000, 3))
    intervals = [t_interval(row) for row in draws]
    assert np.mean([i.low <= 5 <= i.high for i in intervals]) == pytest.approx(0.95, abs=0.015)
