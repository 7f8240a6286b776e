"""Simulations of intervals: how often they hold a value that is known, or that is the mean over many draws."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from diffussm.metrics.statistics.jackknife import Interval

Features = NDArray[np.float32]


def clipped(generator: np.random.Generator, n: int, d: int, shift: float = 0.0) -> Features:
    """Return features (n, d) that are correlated and not Gaussian: normals, negative ones set to 0, as after a ReLU."""
    mixing = np.eye(d) + 0.5 * np.random.default_rng(d).normal(size=(d, d)) / d**0.5
    return np.maximum((shift + generator.normal(size=(n, d))) @ mixing, 0).astype(np.float32)


def simulate_coverage(interval: Callable[[np.random.Generator], Interval], truth: float, simulations: int) -> float:
    """Return the share of simulated intervals that hold the truth."""
    simulated = [interval(np.random.default_rng([7, simulation])) for simulation in range(simulations)]
    return float(np.mean([one.low <= truth <= one.high for one in simulated]))


def mean_of(estimate: Callable[[np.random.Generator], float], draws: int) -> float:
    """Return the mean of an estimate over fresh draws."""
    return float(np.mean([estimate(np.random.default_rng([8, draw])) for draw in range(draws)]))
