"""Precision and recall against ADM's formulas and by hand, and a simulation of their intervals."""

import numpy as np
import pytest

from diffussm.metrics.statistics.jackknife import wilson_interval
from diffussm.metrics.statistics.precision_recall import precision_recall, recall_interval
from tests.support import adm_formulas as adm
from tests.support.pooled_features import column, pooled
from tests.support.simulations import Features, clipped


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
