"""The computations of an evaluation on features: their statistics, the Frechet distance, precision and recall.

The distance is compared and timed in turns with scipy's matrix square root.
"""

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg import sqrtm

from bench.measure import Bench, Contender, Stopwatch, TimingResult
from diffussm.metrics.statistics.frechet import FrechetDistance, Statistics
from diffussm.metrics.statistics.precision_recall import precision_recall

SECONDS = 30.0  # limit for the rounds on two cores
COUNT = 2000  # features in a set
WAYS = ("by eigenvalues", "by sqrtm")


@cache
def features(count: int, size: int, seed: int) -> NDArray[np.float32]:
    """Return correlated features of different scales: (count, size)."""
    generator = np.random.default_rng(seed)
    mixing = np.eye(size) + 0.3 * generator.normal(size=(size, size)) / size**0.5
    drawn = generator.normal(size=(count, size)) @ (mixing * np.linspace(0.1, 2, size))
    return (drawn + 0.05 * seed).astype(np.float32)


def sizes(stopwatch: Stopwatch) -> tuple[int, int]:
    """Return the numbers of samples and of features, which is Inception's at the scale `paper`."""
    scale = stopwatch.scale
    return scale.count(COUNT), 2048 if scale.name == "paper" else scale.count(512)


def test_statistics(bench: Bench) -> None:
    count, size = sizes(bench.stopwatch)
    bench.describe(
        "evaluation", f"statistics of {count} features of {size}", "in blocks", dtype="float64", device="cpu"
    )
    samples = features(count, size, 0)

    def check() -> None:
        found = Statistics.of(samples)
        np.testing.assert_allclose(found.covariance, np.cov(samples, rowvar=False, dtype=np.float64), atol=1e-9)

    bench.measure(Contender(lambda: Statistics.of(samples), check, items=count))


def by_sqrtm(a: Statistics, b: Statistics) -> float:
    difference, root = a.mean - b.mean, sqrtm(a.covariance @ b.covariance)
    return float(difference @ difference + np.trace(a.covariance + b.covariance - 2 * root.real))


@cache
def in_turns(stopwatch: Stopwatch) -> dict[str, TimingResult]:
    """Return the outcomes of both ways, including the factor of the reference, which an evaluation computes once."""
    count, size = sizes(stopwatch)
    a, b = (Statistics.of(features(max(count, 2 * size), size, seed)) for seed in (0, 1))

    def check() -> None:
        assert FrechetDistance(b)(a) == pytest.approx(by_sqrtm(a, b), rel=1e-6)

    contenders = {
        "by eigenvalues": Contender(lambda: FrechetDistance(b)(a), check),
        "by sqrtm": Contender(lambda: by_sqrtm(a, b)),
    }
    return stopwatch.in_turns(contenders, SECONDS)


@pytest.mark.parametrize("way", WAYS)
def test_frechet_distance(bench: Bench, way: str) -> None:
    """On two cores and with 2,048 features, eigenvalues are at least five times as fast as sqrtm."""
    bench.describe(
        "evaluation", f"Frechet distance of {sizes(bench.stopwatch)[1]} features", way, dtype="float64", device="cpu"
    )
    bench.record(in_turns(bench.stopwatch), way, ["by eigenvalues"] if way == "by sqrtm" else [])


def test_precision_and_recall(bench: Bench) -> None:
    count, size = sizes(bench.stopwatch)
    title = f"precision and recall of {count} and {count} features of {size}"
    bench.describe("evaluation", title, "in blocks", device="cpu")
    samples, reference = features(count, size, 0), features(count, size, 1)

    def check() -> None:
        assert precision_recall(samples, samples) == (1, 1), "of a set to itself"

    bench.measure(Contender(lambda: precision_recall(samples, reference), check, items=count), SECONDS)
