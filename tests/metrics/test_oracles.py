"""Frechet distances, KID and IS against independent formulas, closed forms and results worked out by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.linalg import sqrtm
from torch_fidelity.metric_kid import kid_features_to_metric

from diffussm.metrics.statistics import kid
from diffussm.metrics.statistics.fid import extrapolated, frechet_estimate
from diffussm.metrics.statistics.frechet import FrechetDistance, Moments, Statistics, frechet_distance
from diffussm.metrics.statistics.inception_score import inception_score
from diffussm.metrics.statistics.jackknife import groups_of
from diffussm.metrics.statistics.kid import kernel_distance
from tests.support import adm_formulas as adm
from tests.support.pooled_features import pooled

# ADM's formulas


@pytest.mark.parametrize(("n", "m", "d"), [(600, 500, 128), (400, 300, 161)])
def test_frechet_distance_as_adm(n: int, m: int, d: int) -> None:
    generator = np.random.default_rng(0)
    samples, reference = pooled(generator, n, d, 0.3), pooled(generator, m, d)
    distance = FrechetDistance(Statistics.of(reference))
    expected = adm.frechet(adm.statistics(samples), adm.statistics(reference))
    assert frechet_estimate(samples, distance).value == pytest.approx(expected, rel=1e-6)


def logits(n: int, classes: int, seed: int = 0) -> NDArray[np.float32]:
    """Whose order matters: what is likely drifts from the first to the last."""
    generator = np.random.default_rng(seed)
    drift = np.linspace(-2, 2, n)[:, None] * np.linspace(-1, 1, classes)
    return (generator.normal(0, 2, (n, classes)) + drift).astype(np.float32)


@pytest.mark.parametrize(("n", "splits"), [(12_000, 3), (5_000, 1), (777, 1)])
def test_inception_score_as_adm(n: int, splits: int) -> None:
    x = logits(n, 10)
    assert inception_score(x)[0] == pytest.approx(adm.inception_score(x), rel=1e-6)
    shuffled = x[np.random.default_rng(1).permutation(n)]
    assert (inception_score(shuffled)[0] != pytest.approx(inception_score(x)[0], rel=1e-3)) == (splits > 1)


# Frechet distance


def rotation(d: int, seed: int) -> NDArray[np.float64]:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.integers(0, 1000), st.booleans())
def test_gaussians_whose_covariances_commute(d: int, seed: int, diagonal: bool) -> None:
    """|m - m'|^2 + sum (s - s')^2 of standard deviations along common axes."""
    generator = np.random.default_rng(seed)
    s, t = generator.uniform(0.1, 3, (2, d))
    mean = generator.normal(size=(2, d))
    axes = np.eye(d) if diagonal else rotation(d, seed)
    a, b = (Statistics(m, (axes * deviations**2) @ axes.T) for m, deviations in zip(mean, (s, t), strict=True))
    expected = ((mean[0] - mean[1]) ** 2).sum() + ((s - t) ** 2).sum()
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_a_shift_of_the_mean_alone() -> None:
    x = np.random.default_rng(0).normal(size=(50, 4))
    shift = np.array([3.0, 0, -4.0, 0])
    assert frechet_distance(Statistics.of(x), Statistics.of(x + shift)) == pytest.approx(25, rel=1e-9)


def test_covariances_without_full_rank() -> None:
    """Of u u^T and S the trace of the root is sqrt(u^T S u); of planes at right angles it is 0."""
    generator = np.random.default_rng(0)
    d, zero = 6, np.zeros(6)
    u, factor = generator.normal(size=d), generator.normal(size=(d, d))
    full = factor @ factor.T
    thin, thick = Statistics(zero, np.outer(u, u)), Statistics(zero, full)
    expected = u @ u + np.trace(full) - 2 * (u @ full @ u) ** 0.5
    assert frechet_distance(thin, thick) == pytest.approx(expected, rel=1e-7)
    assert frechet_distance(thick, thin) == pytest.approx(expected, rel=1e-7)
    axes = rotation(d, 1)
    first, second = (Statistics(zero, part @ part.T) for part in (axes[:, :3], axes[:, 3:]))
    assert frechet_distance(first, second) == pytest.approx(6, abs=1e-6)
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("n", "m", "rel"), [(200, 300, 1e-9), (25, 300, 1e-5), (25, 30, 1e-4)])
def test_frechet_distance_as_sqrtm(n: int, m: int, rel: float) -> None:
    """Also of fewer features than dimensions (40), as well as sqrtm of a singular product can tell."""
    generator = np.random.default_rng(n)
    a, b = generator.normal(size=(n, 40)), generator.normal(0.5, 2, (m, 40)) @ rotation(40, 1)
    (mean_a, cov_a), (mean_b, cov_b) = Statistics.of(a), Statistics.of(b)
    ridge = np.eye(40) * (1e-10 if min(n, m) <= 40 else 0)
    root = np.trace(sqrtm((cov_a + ridge) @ (cov_b + ridge))).real
    expected = ((mean_a - mean_b) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * root
    assert frechet_distance(Statistics.of(a), Statistics.of(b)) == pytest.approx(expected, rel=rel)


def test_extrapolation_is_nearer_to_the_true_distance() -> None:
    """Of known Gaussians, of which the reference is exact: FID at n is too large, its extrapolation on average not."""
    d, n, seeds = 12, 300, 200
    scales = np.linspace(0.5, 2, d)
    distance = FrechetDistance(Statistics(np.zeros(d), np.eye(d)))
    truth = d * 0.3**2 + ((scales - 1) ** 2).sum()
    at_n, at_infinity = [], []
    for seed in range(seeds):
        x = 0.3 + np.random.default_rng(seed).normal(size=(n, d)) * scales
        at_n.append(distance(Statistics.of(x)) - truth)
        at_infinity.append(extrapolated(x, distance) - truth)
    bias, remaining_bias = np.mean(at_n), abs(np.mean(at_infinity))
    assert bias > 6 * np.std(at_n) / seeds**0.5
    assert remaining_bias < min(bias / 4, 3 * np.std(at_infinity) / seeds**0.5)


# Moments


def cuts(n: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(1, n - 1), unique=True, min_size=1, max_size=8).map(sorted)


@settings(max_examples=40, deadline=None)
@given(st.data(), st.integers(2, 60), st.integers(1, 6), st.integers(0, 1000))
def test_moments_of_any_parts_in_any_order_are_those_of_the_whole(
    data: st.DataObject, n: int, d: int, seed: int
) -> None:
    x = 5 + np.random.default_rng(seed).normal(size=(n, d))
    parts = [Moments.of(part) for part in np.split(x, data.draw(cuts(n)))]
    whole = Moments.sum(data.draw(st.permutations(parts)))
    assert whole.count == n
    np.testing.assert_allclose(whole.mean, x.mean(0), rtol=1e-10)
    scale = (n - 1) * np.cov(x, rowvar=False).reshape(d, d)
    np.testing.assert_allclose(whole.scatter, scale, rtol=1e-10, atol=1e-10 * np.trace(scale) + 1e-20)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 1000))
def test_a_part_that_was_added_is_taken_away_again(n: int, m: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    a, b = Moments.of(3 + generator.normal(size=(n, 4))), Moments.of(generator.normal(1, 2, (m, 4)))
    remainder = a + b - b
    assert remainder.count == a.count
    np.testing.assert_allclose(remainder.mean, a.mean, rtol=1e-10, atol=1e-12 * (1 + m / n))
    np.testing.assert_allclose(remainder.scatter, a.scatter, atol=1e-10 * np.trace((a + b).scatter))


# KID


def cubic(x: NDArray, y: NDArray) -> float:
    return (float(x @ y) / len(x) + 1) ** 3


def all_pairs(x: NDArray, y: NDArray) -> float:
    """The unbiased squared MMD, pair by pair (Gretton et al. 2012, equation 3)."""
    n, m = len(x), len(y)
    xx = sum(cubic(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    yy = sum(cubic(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return xx + yy - 2 * sum(cubic(a, b) for a in x for b in y) / (n * m)


def two_sets(n: int, m: int, d: int = 5) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    generator = np.random.default_rng(n)
    return generator.normal(size=(n, d)).astype(np.float32), generator.normal(0.4, 1, (m, d)).astype(np.float32)


def test_kid_is_the_mean_over_subsets_pair_by_pair() -> None:
    x, y = two_sets(11, 16)
    draws = np.random.RandomState(2020)  # torch-fidelity's
    values = []
    for _ in range(100):
        of_x, of_y = draws.choice(11, 5, replace=False), draws.choice(16, 5, replace=False)
        values.append(all_pairs(x[of_x].astype(np.float64), y[of_y].astype(np.float64)))
    assert kernel_distance(x, y)[0] == pytest.approx(np.mean(values), rel=1e-5)


@pytest.mark.parametrize(("n", "m", "size"), [(300, 200, 100), (200, 300, 100), (500, 600, 150)])
def test_kid_is_torch_fidelity_s(n: int, m: int, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With subsets of 1,000, here 150, or of half of the smaller set."""
    assert (kid.SUBSETS, kid.SUBSET) == (100, 1000)
    monkeypatch.setattr(kid, "SUBSET", 150)
    x, y = two_sets(n, m)
    theirs = kid_features_to_metric(torch.from_numpy(x), torch.from_numpy(y), kid_subset_size=size, verbose=False)
    assert kernel_distance(x, y)[0] == pytest.approx(theirs["kernel_inception_distance_mean"], abs=1e-6)


def test_all_pairs_without_each_group_pair_by_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    """What KID's interval is made of; in blocks of few rows, which its sums must not notice."""
    x, y = two_sets(14, 9)
    monkeypatch.setattr(kid, "BLOCK", 4)
    subsets = kid._subsets(14, 9, 4)
    sets = [kid._Sets(features, of_it, "cpu") for features, of_it in zip((x, y), subsets, strict=True)]
    pairs = ((0, 0), (1, 1), (0, 1))
    of_samples, of_reference = kid._without_each_group(*sets, *(sets[a].sums(sets[b]).groups for a, b in pairs))
    exact_x, exact_y = x.astype(np.float64), y.astype(np.float64)
    expected = [all_pairs(exact_x[groups_of(14) != g], exact_y) for g in range(7)]
    np.testing.assert_allclose(of_samples, expected, rtol=1e-4)
    expected = [all_pairs(exact_x, exact_y[groups_of(9) != g]) for g in range(4)]
    np.testing.assert_allclose(of_reference, expected, rtol=1e-4)


def test_kid_of_one_population_is_zero_on_average() -> None:
    generator = np.random.default_rng(0)
    found = [kernel_distance(*generator.normal(0.5, 1, (2, 24, 3)).astype(np.float32))[0] for _ in range(100)]
    assert abs(np.mean(found)) < 3 * np.std(found) / len(found) ** 0.5
    biased_by = 2 * (np.mean([cubic(v, v) for v in generator.normal(0.5, 1, (1000, 3))]) - 1) / 12
    assert biased_by > 20 * np.std(found) / len(found) ** 0.5  # what a diagonal remainder in would add


# Inception Score


@pytest.mark.parametrize("classes", [2, 10])
def test_inception_score_of_sure_and_even_classes_is_their_number(classes: int) -> None:
    sure = 200 * np.eye(classes, dtype=np.float32)[np.arange(100 * classes) % classes]
    value, interval = inception_score(sure)
    assert value == pytest.approx(classes, rel=1e-9)
    assert interval is not None
    assert interval.low <= value <= interval.high


def test_inception_score_of_uniform_predictions_is_one() -> None:
    same = np.tile(np.random.default_rng(0).normal(size=7).astype(np.float32), (6000, 1))
    value, interval = inception_score(same)
    assert value == pytest.approx(1, abs=1e-9)
    assert interval == pytest.approx((1, 1), abs=1e-6)


def test_inception_score_by_hand() -> None:
    """Two samples of (3/4, 1/4) and two of (1/4, 3/4): exp(log 2 - H(1/4))."""
    p = np.array([[3, 1], [1, 3], [3, 1], [1, 3]]) / 4
    entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    assert inception_score(np.log(p).astype(np.float32))[0] == pytest.approx(2 * np.exp(-entropy), rel=1e-6)


@pytest.mark.parametrize("count", [5001, 5002])
def test_a_last_split_of_hardly_any_samples_has_an_interval(count: int) -> None:
    """A group may be all of it."""
    value, interval = inception_score(np.random.default_rng(0).normal(size=(count, 4)).astype(np.float32))
    assert interval is not None
    assert interval.low < value < interval.high
