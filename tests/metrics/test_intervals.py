"""Coverage: how often 95 % intervals over samples hold the truth, where the truth is known or can be simulated.

A biased estimator's truth is its own mean at this n, over fresh draws: that is what its interval is for. KID's is the
distance of the populations, of which samples and reference both are draws.
"""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom

from diffussm.metrics.statistics.density_coverage import Occupancy, density, occupancy
from diffussm.metrics.statistics.density_coverage import coverage as coverage_of
from diffussm.metrics.statistics.fid import frechet_estimate
from diffussm.metrics.statistics.frechet import FrechetDistance, Moments, Statistics
from diffussm.metrics.statistics.inception_score import inception_score
from diffussm.metrics.statistics.jackknife import Interval, wilson_interval
from diffussm.metrics.statistics.kid import kernel_distance
from diffussm.metrics.statistics.precision_recall import precision_recall, recall_interval
from diffussm.metrics.statistics.protocol import MetricInputs
from tests.support.reference_layer import FeaturesOnly

Features = NDArray[np.float32]


def clipped(generator: np.random.Generator, n: int, d: int, shift: float = 0.0) -> Features:
    """Not Gaussian, correlated: normals, those below zero set to it, as after a ReLU."""
    mixing = np.eye(d) + 0.5 * np.random.default_rng(d).normal(size=(d, d)) / d**0.5
    return np.maximum((shift + generator.normal(size=(n, d))) @ mixing, 0).astype(np.float32)


def to_a_known_gaussian(d: int) -> FrechetDistance:
    return FrechetDistance(Statistics.of(clipped(np.random.default_rng(1), 20_000, d)))


def coverage(interval: Callable[[np.random.Generator], Interval], truth: float, simulations: int) -> float:
    """Share of simulated intervals that hold the truth."""
    found = [interval(np.random.default_rng([7, simulation])) for simulation in range(simulations)]
    return float(np.mean([one.low <= truth <= one.high for one in found]))


def mean_of(estimate: Callable[[np.random.Generator], float], draws: int) -> float:
    return float(np.mean([estimate(np.random.default_rng([8, draw])) for draw in range(draws)]))


# FID


def frechet_coverage(n: int, d: int, shift: float, simulations: int, draws: int) -> float:
    distance = to_a_known_gaussian(d)

    def value(generator: np.random.Generator) -> float:
        return distance(Moments.of(clipped(generator, n, d, shift)).statistics)

    def interval(generator: np.random.Generator) -> Interval:
        found = frechet_estimate(clipped(generator, n, d, shift), distance).interval
        assert found is not None
        return found

    return coverage(interval, mean_of(value, draws), simulations)


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

    return coverage(interval, truth, simulations)


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
    found = coverage(interval, truth, 400)
    print(f"IS, n {n}, {classes} classes: {found:.3f}")
    assert 0.92 <= found <= 0.98


# precision, recall, label accuracy


@pytest.mark.slow
@pytest.mark.parametrize(("n", "m", "d"), [(200, 200, 4), (400, 400, 16), (400, 1000, 16), (1000, 400, 16)])
def test_precision_and_recall_s_intervals_cover(n: int, m: int, d: int) -> None:
    """Over samples, the reference being what it is: the truth is the mean at this n against this reference.

    Recall's covers too often, at about twice the width that it need have: a ball is made of a sample and its three
    neighbours, and the jackknife counts the variance of what takes k samples together k times (Efron and Stein 1981).
    The bounds on it are of what was found, not of what would be right.
    """
    reference = clipped(np.random.default_rng(2), m, d)

    def samples(generator: np.random.Generator) -> Features:
        return clipped(generator, n, d, 0.4)

    values = [precision_recall(samples(np.random.default_rng([8, draw])), reference) for draw in range(1000)]
    precision, recall = np.mean(values, 0)
    drawn = [samples(np.random.default_rng([7, simulation])) for simulation in range(300)]
    held = {"precision": 0, "recall": 0}
    widths = []
    for x in drawn:
        p, r = precision_recall(x, reference)
        of_precision, of_recall = wilson_interval(p, n), recall_interval(r, x, reference)
        assert of_recall is not None
        held["precision"] += of_precision.low <= precision <= of_precision.high
        held["recall"] += of_recall.low <= recall <= of_recall.high
        widths.append(of_recall.high - of_recall.low)
    ideal = 2 * 1.96 * np.std(values, 0)[1]
    print(
        f"n {n}, m {m}, d {d}: precision {precision:.3f} covered {held['precision'] / 300:.3f}, recall {recall:.3f} "
        f"covered {held['recall'] / 300:.3f}, width {np.mean(widths):.4f} for {ideal:.4f}"
    )
    assert 0.92 <= held["precision"] / 300 <= 0.98
    assert held["recall"] / 300 >= 0.92
    assert ideal < np.mean(widths) < 2.2 * ideal


# density, coverage


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "m", "d", "shift"),
    [(200, 200, 4, 0.4), (400, 400, 16, 0.0), (400, 400, 32, 0.0), (400, 1000, 16, 0.4), (1000, 400, 16, 0.4),
     (400, 400, 16, 1.0), (50, 1000, 8, 0.0)],
)  # fmt: skip
def test_density_and_coverage_s_intervals_cover(n: int, m: int, d: int, shift: float) -> None:
    """Over samples, the reference being what it is: the truth is the mean at this n against this reference.

    Coverage's interval is never too narrow, and hardly wider than it need be. Where a handful of balls is empty at most
    it may hold the truth a little too seldom, as Wilson's of a single share may.
    """
    reference = clipped(np.random.default_rng(2), m, d)

    def filled(seed: list[int]) -> Occupancy:
        return occupancy(clipped(np.random.default_rng(seed), n, d, shift), reference)

    drawn = [filled([8, draw]) for draw in range(1000)]
    densities = [found.balls_per_sample.mean() / 5 for found in drawn]
    coverages = [(found.samples_per_ball > 0).mean() for found in drawn]
    held, widths = np.zeros(2), np.zeros(2)
    for simulation in range(300):
        inputs = MetricInputs(clipped(np.random.default_rng([7, simulation]), n, d, shift), FeaturesOnly(reference))
        for i, (metric, truth) in enumerate(((density, np.mean(densities)), (coverage_of, np.mean(coverages)))):
            found = metric(inputs).interval
            assert found is not None
            held[i] += (found.low <= truth <= found.high) / 300
            widths[i] += (found.high - found.low) / 300
    ideal = 2 * 1.96 * np.array([np.std(densities), np.std(coverages)])
    print(
        f"n {n}, m {m}, d {d}, shift {shift}: density {np.mean(densities):.3f} covered {held[0]:.3f}, coverage "
        f"{np.mean(coverages):.3f} covered {held[1]:.3f}, widths over the ideal ones {widths / ideal}"
    )
    assert 0.92 <= held[0] <= 0.98
    assert held[1] >= 0.92
    assert 0.9 < widths[0] / ideal[0] < 1.1
    assert 0.9 < widths[1] / ideal[1] < 1.4


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
