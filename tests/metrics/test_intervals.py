"""Coverage: how often 95 % intervals over samples hold the truth, where the truth is known or can be simulated.

A biased estimator's truth is its own mean at this n, over fresh draws: that is what its interval is for. KID's is the
distance of the populations, of which samples and reference both are draws.
"""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom

from diffussm.metrics.statistics.fid import frechet_estimate
from diffussm.metrics.statistics.frechet import FrechetDistance, Moments, Statistics
from diffussm.metrics.statistics.inception_score import inception_score
from diffussm.metrics.statistics.jackknife import Interval, wilson_interval
from diffussm.metrics.statistics.kid import kernel_distance
from tests.support.simulations import Features, clipped, mean_of, simulate_coverage


def to_a_known_gaussian(d: int) -> FrechetDistance:
    return FrechetDistance(Statistics.of(clipped(np.random.default_rng(1), 20_000, d)))


# FID


def frechet_coverage(n: int, d: int, shift: float, simulations: int, draws: int) -> float:
    distance = to_a_known_gaussian(d)

    def value(generator: np.random.Generator) -> float:
        return distance(Moments.of(clipped(generator, n, d, shift)).statistics)

    def interval(generator: np.random.Generator) -> Interval:
        found = frechet_estimate(clipped(generator, n, d, shift), distance).interval
        assert found is not None
        return found

    return simulate_coverage(interval, mean_of(value, draws), simulations)


def test_fid_s_interval_covers() -> None:
    assert 0.92 <= frechet_coverage(100, 8, 0.15, simulations=200, draws=1000) <= 0.98


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "d", "shift", "most"),
    [(300, 8, 0.15, 0.98), (500, 16, 0.15, 0.98), (500, 16, 0.0, 1.0), (300, 120, 0.1, 1.0), (100, 160, 0.1, 1.0)],
)
def test_fid_and_sfid_s_intervals_cover(n: int, d: int, shift: float, most: float) -> None:
    """Never too seldom. Too often where populations are equal: the distance has no slope there, what is left takes two
    samples together, and the jackknife counts its variance twice (Efron and Stein 1981)."""
    found = frechet_coverage(n, d, shift, 400, 1500)
    print(f"Frechet, n {n}, d {d}, shift {shift}: {found:.3f}")
    assert 0.92 <= found <= most


def test_a_bootstrap_with_replacement_is_biased() -> None:
    """Why there is none: its duplicates add the bias of n samples once more, so it lies above what it should hold."""
    n, d, distance = 300, 16, to_a_known_gaussian(16)
    x = clipped(np.random.default_rng(0), n, d, 0.1)
    generator = np.random.default_rng(1)
    resampled = [distance(Statistics.of(x[generator.integers(0, n, n)])) for _ in range(200)]
    found = frechet_estimate(x, distance)
    truth = mean_of(lambda g: distance(Statistics.of(clipped(g, n, d, 0.1))), 1000)
    low, high = np.quantile(resampled, [0.025, 0.975])
    assert low > truth
    assert low > found.value
    assert found.interval is not None
    assert found.interval.low <= truth <= found.interval.high
    assert found.interval.high - found.interval.low < 2 * (high - low)


# KID


def gaussian(generator: np.random.Generator, n: int, mean: NDArray, scales: NDArray) -> Features:
    return (mean + scales * generator.normal(size=(n, len(mean)))).astype(np.float32)


def kernel_mean(mean_x: NDArray, scales_x: NDArray, mean_y: NDArray, scales_y: NDArray) -> float:
    """E (x . y / d + 1)^3 of independent Gaussians with diagonal covariances, from their moments up to the third."""
    d = len(mean_x)
    moments = []
    for mean, scales in ((mean_x, scales_x), (mean_y, scales_y)):
        covariance = np.diag(scales**2)
        second = covariance + np.outer(mean, mean)
        once = np.einsum("ij,k->ijk", covariance, mean)
        third = np.einsum("i,j,k->ijk", mean, mean, mean) + once + once.transpose(0, 2, 1) + once.transpose(2, 1, 0)
        moments.append((mean, second, third))
    first, second, third = ((x * y).sum() / d**k for k, (x, y) in enumerate(zip(*moments, strict=True), 1))
    return float(third + 3 * second + 3 * first + 1)


def populations(d: int, shift: float) -> tuple[tuple[NDArray, NDArray], tuple[NDArray, NDArray]]:
    return (np.full(d, 0.5 + shift), np.full(d, 1.0)), (np.full(d, 0.5), np.linspace(1.0, 1.0 + shift, d))


def kernel_coverage(n: int, m: int, d: int, shift: float, simulations: int) -> float:
    x, y = populations(d, shift)
    truth = kernel_mean(*x, *x) + kernel_mean(*y, *y) - 2 * kernel_mean(*x, *y)

    def interval(generator: np.random.Generator) -> Interval:
        found = kernel_distance(gaussian(generator, n, *x), gaussian(generator, m, *y))[1]
        assert found is not None
        return found

    return simulate_coverage(interval, truth, simulations)


def test_the_population_s_kernel_distance() -> None:
    x, y = populations(4, 0.4)
    truth = kernel_mean(*x, *x) + kernel_mean(*y, *y) - 2 * kernel_mean(*x, *y)
    found = [
        kernel_distance(gaussian(generator, 80, *x), gaussian(generator, 80, *y))[0]
        for generator in map(np.random.default_rng, range(60))
    ]
    error = np.std(found) / len(found) ** 0.5
    assert truth == pytest.approx(np.mean(found), abs=3 * error)
    assert truth > 12 * error


def test_kid_s_interval_covers() -> None:
    """As far as a hundred simulations tell: the share errs by 0.02."""
    assert 0.88 <= kernel_coverage(60, 60, 4, 0.4, simulations=100) <= 0.99


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "m", "d", "shift"),
    [(60, 60, 4, 0.4), (60, 60, 4, 0.0), (200, 80, 16, 0.3), (80, 200, 16, 0.3), (300, 300, 16, 0.1)],
)
def test_kid_s_interval_covers_everywhere(n: int, m: int, d: int, shift: float) -> None:
    found = kernel_coverage(n, m, d, shift, simulations=500)
    print(f"KID, n {n}, m {m}, d {d}, shift {shift}: {found:.3f}")
    assert 0.92 <= found <= 0.98


# Inception Score


@pytest.mark.slow
@pytest.mark.parametrize(("n", "classes"), [(500, 10), (2000, 10), (500, 100)])
def test_inception_score_s_interval_covers(n: int, classes: int) -> None:
    def logits(generator: np.random.Generator) -> Features:
        return (generator.gamma(2, 1, (n, 1)) * generator.normal(size=(n, classes))).astype(np.float32)

    def interval(generator: np.random.Generator) -> Interval:
        found = inception_score(logits(generator))[1]
        assert found is not None
        return found

    truth = mean_of(lambda generator: inception_score(logits(generator))[0], 1500)
    found = simulate_coverage(interval, truth, 400)
    print(f"IS, n {n}, {classes} classes: {found:.3f}")
    assert 0.92 <= found <= 0.98


# label accuracy, and precision


@pytest.mark.parametrize(("low", "high", "n"), [(0.4, 0.6, 200), (0.9, 1.0, 200), (0.0, 0.02, 1000), (0.99, 1.0, 1000)])
def test_a_share_s_interval_covers(low: float, high: float, n: int) -> None:
    """Precision and label accuracy: exactly, by the binomial distribution, on average over shares. Counts are whole,
    so that at a single share it may be off: 0.920 at 999 of 1,000."""
    counts, held = np.arange(n + 1), []
    intervals = np.array([wilson_interval(count / n, n) for count in counts])
    for share in np.linspace(low, high, 202)[1:-1]:
        holds = (intervals[:, 0] <= share) & (share <= intervals[:, 1])
        held.append(binom.pmf(counts, n, share)[holds].sum())
    print(f"Wilson, n {n}, {low} .. {high}: {np.mean(held):.3f}, least {np.min(held):.3f}")
    assert 0.92 <= np.mean(held) <= 0.98


@pytest.mark.parametrize(("share", "n"), [(0.0, 50), (0.3, 50), (0.5, 1000), (0.999, 1000)])
def test_a_share_s_interval_ends_where_the_share_is_196_errors_away(share: float, n: int) -> None:
    """(share - p)^2 = z^2 p (1 - p) / n, as Wilson has it, at both ends p: the error is that of p, not of the share."""
    for p in wilson_interval(share, n):
        assert (share - p) ** 2 == pytest.approx(1.959964**2 * p * (1 - p) / n, rel=1e-5, abs=1e-12)
    assert wilson_interval(share, n).low <= share < wilson_interval(share, n).high
