"""Density and coverage against independent computations and by hand, and simulations of their intervals."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from sklearn.neighbors import NearestNeighbors

from diffussm.metrics.statistics import density_coverage
from diffussm.metrics.statistics.density_coverage import Occupancy, coverage, coverage_interval, density, occupancy
from diffussm.metrics.statistics.jackknife import wilson_interval
from diffussm.metrics.statistics.protocol import MetricInputs
from tests.support.pooled_features import column, pooled
from tests.support.reference_layer import FeaturesOnly
from tests.support.simulations import clipped


def density_and_coverage(samples: NDArray[np.float32], reference: NDArray[np.float32]) -> tuple[float, float]:
    inputs = MetricInputs(samples, FeaturesOnly(reference))
    return density(inputs).value, coverage(inputs).value


def density_and_coverage_ball_by_ball(samples: NDArray, reference: NDArray) -> tuple[float, float]:
    """By scikit-learn's neighbours in float64, one ball at a time, after Naeem et al. 2020, equations 4 and 6."""
    exact, k = reference.astype(np.float64), 5
    neighbours = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(exact)
    radii = neighbours.kneighbors()[0][:, -1]  # of the points that it was fitted to, a point itself remainder out
    held = [
        np.linalg.norm(samples.astype(np.float64) - centre, axis=1) < radius
        for centre, radius in zip(exact, radii, strict=True)
    ]
    return sum(map(np.sum, held)) / (k * len(samples)), sum(map(np.any, held)) / len(reference)


@pytest.mark.parametrize(("n", "m", "d"), [(1500, 1000, 128), (300, 1200, 8), (2, 6, 3)])
def test_density_and_coverage_ball_by_ball(n: int, m: int, d: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In blocks of any size. float32 may move a sample or two across a surface."""
    generator = np.random.default_rng(d)
    samples, reference = pooled(generator, n, d, 0.6), pooled(generator, m, d)
    expected = density_and_coverage_ball_by_ball(samples, reference)
    for block in (500, 7):
        monkeypatch.setattr(density_coverage, "BLOCK", block)
        found = density_and_coverage(samples, reference)
        assert found[0] == pytest.approx(expected[0], abs=2 / (5 * n))
        assert found[1] == pytest.approx(expected[1], abs=1 / m)
    assert n < 10 or (0.1 < found[0] < 0.9 and 0.1 < found[1] < 0.95)


@pytest.mark.parametrize("seed", range(3))
def test_density_and_coverage_where_distances_tie(seed: int) -> None:
    """Of whole numbers distances are exact, and many samples lie on a surface: outside."""
    generator = np.random.default_rng(seed)
    samples, reference = (generator.integers(0, 6, (count, 4)).astype(np.float32) for count in (90, 70))
    squares = np.square(reference[:, None] - reference).sum(-1)
    radii = np.sort(squares, axis=1)[:, 5]
    to_samples = np.square(reference[:, None] - samples).sum(-1)
    assert (to_samples == radii[:, None]).any()
    inside = to_samples < radii[:, None]
    expected = inside.sum() / (5 * 90), inside.any(1).mean()
    assert density_and_coverage(samples, reference) == pytest.approx(expected, abs=1e-12)


def test_density_and_coverage_of_points_on_a_line() -> None:
    """Reference 0 1 2 3 4 5 6: fifth neighbours at 5 4 3 3 3 4 5, so balls (-5, 5) (-3, 5) (-1, 5) (0, 6) (1, 7) (1, 9)
    (1, 11). Of the samples -4 lies in one of them, 8 in two and 20 in none; 6 only in the last three."""
    reference = column(0, 1, 2, 3, 4, 5, 6)
    assert density_and_coverage(column(-4, 8, 20), reference) == pytest.approx((3 / 15, 3 / 7))
    assert density_and_coverage(column(6, 20), reference) == pytest.approx((3 / 10, 3 / 7))


def test_density_and_coverage_of_a_set_with_itself_and_with_one_far_away() -> None:
    x = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    assert density_and_coverage(x.copy(), x) == pytest.approx((1, 1))
    assert density_and_coverage(x + 1000, x) == (0, 0)
    assert density_and_coverage(np.repeat(x[:1], 30, axis=0), x)[1] < 0.5  # one mode is no coverage


def test_an_outlier_among_the_samples_adds_nothing() -> None:
    """It makes no ball of its own: what density and coverage are for."""
    generator = np.random.default_rng(0)
    reference = generator.normal(size=(60, 2)).astype(np.float32)
    samples = 0.01 * generator.normal(size=(60, 2)).astype(np.float32)
    few = density_and_coverage(samples, reference)
    samples[:5] = 30 * generator.normal(size=(5, 2))
    found = density_and_coverage(samples, reference)
    assert found[0] < few[0]
    assert found[1] <= few[1]


def test_density_s_interval_is_that_of_a_mean() -> None:
    generator = np.random.default_rng(0)
    samples, reference = (generator.normal(size=(count, 3)).astype(np.float32) for count in (50, 80))
    inputs = MetricInputs(samples, FeaturesOnly(reference))
    per_sample = inputs.shared(density_coverage.occupancy).balls_per_sample / 5
    expected = stats.t.interval(0.95, 49, per_sample.mean(), per_sample.std(ddof=1) / 50**0.5)
    assert density(inputs).interval == pytest.approx(expected)


def test_coverage_s_interval_is_wilson_s_of_balls_that_share_no_sample() -> None:
    """Balls of their own for each group of samples: two of each, so that none is filled by one alone."""
    of_balls = np.array([2] * 30 + [0] * 10)
    found = density_coverage.Occupancy(np.ones(60, np.int64), of_balls, np.zeros(60, np.int64))
    assert coverage_interval(found) == wilson_interval(0.75, 40)
    alone = found._replace(exclusive_balls=np.array([6] * 5 + [0] * 55))  # and wider where one sample fills several
    wider = coverage_interval(alone)
    assert wider.low < wilson_interval(0.75, 40).low
    assert wider.high > wilson_interval(0.75, 40).high


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
        for i, (metric, truth) in enumerate(((density, np.mean(densities)), (coverage, np.mean(coverages)))):
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
