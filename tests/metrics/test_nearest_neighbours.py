"""Metrics of nearest neighbours (precision, recall, density, coverage) against independent computations and by hand."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from sklearn.neighbors import NearestNeighbors

from diffussm.metrics.statistics import density_coverage
from diffussm.metrics.statistics.density_coverage import coverage, coverage_interval, density
from diffussm.metrics.statistics.jackknife import wilson_interval
from diffussm.metrics.statistics.precision_recall import precision_recall
from diffussm.metrics.statistics.protocol import MetricInputs
from tests.support import adm_formulas as adm
from tests.support.pooled_features import pooled
from tests.support.reference_layer import FeaturesOnly


@pytest.mark.parametrize(("d", "scale"), [(128, 1.0), (256, 1.0), (128, 100.0)])
def test_precision_and_recall_as_adm(d: int, scale: float) -> None:
    """As ADM's in float32, to which it turns by itself where float16 overflows."""
    generator = np.random.default_rng(d)
    samples, reference = scale * pooled(generator, 1500, d, 0.6), scale * pooled(generator, 1000, d)
    overflows = scale > 1
    assert (np.square(samples).sum(1).max() > adm.LARGEST_HALF) == overflows
    found, expected = precision_recall(samples, reference), adm.precision_recall(samples, reference, half=overflows)
    assert 0.1 < found[0] < 0.9
    assert 0.1 < found[1] < 0.9
    assert abs(found[0] - found[1]) > 0.02  # so that one cannot stand for the other
    assert found == pytest.approx(expected, abs=1e-6)


def test_what_adm_s_float16_does_to_precision_and_recall() -> None:
    """Its rounded distances tie, and ties lie inside: both come out higher, by 0.003 at most on average over draws.

    As in ADM's own figures: 0.8265 and 0.5309, a port in float32 has 0.8255 and 0.5285.
    """
    more = []
    for seed in range(4):
        generator = np.random.default_rng(seed)
        samples, reference = pooled(generator, 1500, 192, 0.6), pooled(generator, 1000, 192)
        more.append(np.subtract(adm.precision_recall(samples, reference), precision_recall(samples, reference)))
    assert (np.mean(more, 0) > 0).all()
    assert (np.mean(more, 0) < 0.003).all()


# Precision and recall


def column(*values: float) -> NDArray[np.float32]:
    return np.array(values, dtype=np.float32)[:, None]


def test_precision_and_recall_of_points_on_a_line() -> None:
    """Reference 0 1 2 3 4: third neighbours at 3 2 2 2 3, so its manifold is [-3, 7].

    Samples -3.5 -3 6.5 7 30: third neighbours at 10.5 10 9.5 10 23.5, so theirs is [-14, 17] and [6.5, 53.5].
    """
    reference, samples = column(0, 1, 2, 3, 4), column(-3.5, -3, 6.5, 7, 30)
    assert precision_recall(samples, reference) == pytest.approx((3 / 5, 1))
    assert precision_recall(reference, samples) == pytest.approx((1, 3 / 5))


def test_precision_and_recall_of_points_in_the_plane() -> None:
    """Reference: the corners of the unit square, third neighbours sqrt(2) away, and (10, 0), whose is at 10."""
    reference = np.array([[0, 0], [1, 0], [0, 1], [1, 1], [10, 0]], dtype=np.float32)
    samples = np.array([[19.9, 0], [20.1, 0], [20.2, 0], [20.3, 0]], dtype=np.float32)
    assert precision_recall(samples, reference) == pytest.approx((1 / 4, 0))
    inside = np.array([[-1, -1], [2, 2], [-1, 2], [2, -1]], dtype=np.float32)  # corners at 3 and 3 sqrt(2)
    assert precision_recall(inside, reference) == pytest.approx((1, 4 / 5))


def test_precision_and_recall_of_a_set_with_itself_and_with_one_far_away() -> None:
    x = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    assert precision_recall(x, x.copy()) == (1, 1)
    assert precision_recall(x, x + 1000) == (0, 0)


# Density and coverage


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
