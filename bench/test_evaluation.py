"""The Frechet distance against scipy's matrix root, at Inception's size."""

from functools import cache
from typing import Any

import numpy as np
import pytest
from scipy.linalg import sqrtm

from bench.measure import measure
from diffussm import timing
from diffussm.metrics.frechet import FrechetDistance, Statistics

GROUP, COUNT = "Frechet distance", 5000


@cache
def gaussians(size: int) -> tuple[Statistics, Statistics]:
    """Of 5,000 correlated features each, `size` of them."""
    generator = np.random.default_rng(0)
    scales = np.linspace(0.1, 2, size)
    mixing = np.eye(size) + 0.3 * generator.normal(size=(size, size)) / size**0.5
    a = generator.normal(size=(COUNT, size)) * scales
    b = generator.normal(size=(COUNT, size)) @ (mixing * scales) + 0.05
    return Statistics.of(a), Statistics.of(b)


def by_eigenvalues(a: Statistics, b: Statistics) -> float:
    """From nothing: the factor of the reference too, which an evaluation makes once."""
    return FrechetDistance(b)(a)


def by_sqrtm(a: Statistics, b: Statistics) -> float:
    difference = a.mean - b.mean
    root = sqrtm(a.covariance @ b.covariance)
    return float(difference @ difference + np.trace(a.covariance + b.covariance - 2 * root.real))


@pytest.mark.parametrize("name", ["by eigenvalues", "by sqrtm"])
def test_frechet_distance(benchmark: Any, name: str) -> None:
    """On two cores: at least five times as fast, and the same to 1e-6."""
    a, b = gaussians(128 if benchmark.disabled else 2048)
    calls = {"by eigenvalues": lambda: by_eigenvalues(a, b), "by sqrtm": lambda: by_sqrtm(a, b)}
    assert by_eigenvalues(a, b) == pytest.approx(by_sqrtm(a, b), rel=1e-6)
    if benchmark.disabled:
        benchmark(calls[name])
        return
    extra: dict[str, Any] = {"size": 2048, "samples": COUNT}
    if name == "by sqrtm":
        ratio = timing.ratio(timing.in_turns(calls, 3, 0), "by sqrtm", "by eigenvalues")
        extra["ratio"] = {"of": "this to eigenvalues", **ratio._asdict()}
    measure(benchmark, calls[name], GROUP, name, rounds=3, warmup=0, **extra)
