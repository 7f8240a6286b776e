"""Every draw is a function of (seed, stream, step, sample) and of nothing else."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from diffussm import rng
from diffussm.rng import Stream, normal_quantiles, quantile_normal, random_words


@given(start=st.integers(0, 1000), count=st.integers(1, 40), cut=st.integers(0, 40), size=st.integers(1, 9))
def test_a_batch_is_its_parts(start: int, count: int, cut: int, size: int) -> None:
    cut = min(cut, count)
    whole = rng.normal(3, Stream.NOISE, 7, start, count, (size,))
    parts = [rng.normal(3, Stream.NOISE, 7, start, cut, (size,))] if cut else []
    parts += [rng.normal(3, Stream.NOISE, 7, start + cut, count - cut, (size,))] if cut < count else []
    np.testing.assert_array_equal(whole, np.concatenate(parts))


def test_every_coordinate_matters() -> None:
    draws = [
        rng.uniform(seed, stream, step, start, 1)[0]
        for seed in (0, 1)
        for stream in (Stream.NOISE, Stream.TIMESTEP)
        for step in (0, 1)
        for start in (0, 1)
    ]
    assert len(set(draws)) == 16


def test_golden_values() -> None:
    """The numbers that stored runs were made from: a change here breaks every resume."""
    np.testing.assert_array_equal(
        rng.random_words(1, Stream.NOISE, 2, 3, 1, 2)[0],
        np.random.Philox(key=[1, 4], counter=[3, 0, 2, 0]).random_raw(2),
    )
    assert [int(s) for s in Stream] == list(range(15))


def test_normals_are_normal() -> None:
    x = rng.normal(0, Stream.NOISE, 0, 0, 500, (101,)).ravel()
    assert x.dtype == np.float32
    assert stats.kstest(x.astype(float), "norm").pvalue > 1e-3
    pairs = x.reshape(500, 101)
    assert abs(np.corrcoef(pairs[:, 0], pairs[:, 51])[0, 1]) < 0.15  # cosine and sine of one angle


def test_integers_are_uniform() -> None:
    drawn = rng.integers(0, Stream.TIMESTEP, 0, 0, 20_000, 10)
    assert drawn.min() == 0
    assert drawn.max() == 9
    assert stats.chisquare(np.bincount(drawn)).pvalue > 1e-3


def test_permutation_visits_everything_once_and_differs_by_epoch() -> None:
    first, second = rng.permutation(0, 0, 1797), rng.permutation(0, 1, 1797)
    np.testing.assert_array_equal(np.sort(first), np.arange(1797))
    assert (first != second).any()


@pytest.mark.parametrize("name", ["a.weight", "b.weight"])
def test_a_parameter_draws_by_its_name(name: str) -> None:
    other = "c.weight"
    assert rng.name_hash(name) != rng.name_hash(other)


def test_quantile_normals_are_normal() -> None:
    table = normal_quantiles()
    assert table.dtype == np.float32
    assert len(np.unique(table)) == 2**16
    np.testing.assert_array_equal(table, -table[::-1])
    np.testing.assert_allclose(np.mean(table.astype(np.float64) ** 2), 1, rtol=1e-6)
    np.testing.assert_allclose(np.mean(table.astype(np.float64) ** 4), 3, rtol=2e-3)
    np.testing.assert_allclose(table, stats.norm.ppf((np.arange(2**16) + 0.5) / 2**16), rtol=1e-4)
    drawn = quantile_normal(0, Stream.POSTERIOR, 0, 0, 50, (4, 32, 32)).astype(np.float64)
    assert abs(drawn.mean()) < 0.01
    assert abs(drawn.var() - 1) < 0.01
    assert abs(np.corrcoef(drawn[:, 0].ravel(), drawn[:, 1].ravel())[0, 1]) < 0.02


def test_a_quantile_is_that_of_16_bits() -> None:
    words = random_words(5, Stream.POSTERIOR, 6, 7, 2, 3)
    drawn = quantile_normal(5, Stream.POSTERIOR, 6, 7, 2, (10,))
    for sample, value in np.ndindex(2, 10):
        bits = int(words[sample, value // 4]) >> 16 * (value % 4) & 0xFFFF
        assert drawn[sample, value] == normal_quantiles()[bits]
