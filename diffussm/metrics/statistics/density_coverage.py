"""Density and coverage (Naeem et al. 2020): how samples fill the balls round the images of the reference.

The ball of a reference image reaches to its fifth nearest neighbour among the others. Its surface is not part of it, as
in the authors' code, so that the density of the reference itself is 1. Density is the mean over samples of the number
of balls that a sample lies in, over 5; coverage is the share of balls that hold a sample. The balls do not depend on
the samples, so an outlier among the samples makes no ball of its own, unlike in recall.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch_fidelity.metric_prc import calc_cdist_part

from diffussm.metrics.statistics.jackknife import Interval, interval, of_share
from diffussm.metrics.statistics.protocol import Estimate, MetricInputs

NEIGHBOURS = 5  # k
BLOCK = 500  # rows of distances at once


class Occupancy(NamedTuple):
    """Which balls hold which samples, as far as density and coverage depend on it."""

    of_samples: NDArray[np.int64]  # (n,) balls that each sample lies in
    of_balls: NDArray[np.int64]  # (m,) samples that each ball holds
    sole: NDArray[np.int64]  # (n,) balls that hold this sample and no other


def density(inputs: MetricInputs) -> Estimate:
    """Density of the features, with its interval.

    Given the reference it is a mean over independent samples. Its delete-one jackknife is the standard error of a mean,
    without the noise of a choice of groups.
    """
    per_sample = inputs.shared(occupancy).of_samples / NEIGHBOURS
    value, count = float(per_sample.mean()), len(per_sample)
    found = interval(value, float(per_sample.var(ddof=1)) / count, count)
    return Estimate(value, found and Interval(max(0.0, found.low), found.high))


def coverage(inputs: MetricInputs) -> Estimate:
    """Coverage of the features, with its interval."""
    found = inputs.shared(occupancy)
    return Estimate(float((found.of_balls > 0).mean()), coverage_interval(found))


def occupancy(samples: NDArray[np.float32], reference: NDArray[np.float32]) -> Occupancy:
    """Of features (n, d) and (m, d), n > 1 and m > 5, in blocks: no more than 500 rows of distances at once."""
    x, y = torch.from_numpy(samples), torch.from_numpy(reference)
    of_samples, sole = torch.zeros(2, len(x), dtype=torch.int64)
    of_balls = torch.zeros(len(y), dtype=torch.int64)
    for start in range(0, len(y), BLOCK):
        centres = y[start : start + BLOCK]
        radii = calc_cdist_part(centres, y, BLOCK).kthvalue(NEIGHBOURS + 1).values  # the first is the centre itself
        inside = calc_cdist_part(centres, x, BLOCK) < radii[:, None]
        held = inside.sum(1)
        of_samples += inside.sum(0)
        sole += inside[held == 1].sum(0)
        of_balls[start : start + BLOCK] = held
    return Occupancy(of_samples.numpy(), of_balls.numpy(), sole.numpy())


def coverage_interval(found: Occupancy) -> Interval:
    """95 % over samples: Wilson's, of as many independent balls as would have this coverage's variance.

    The number of empty balls has the variance
      sum_i q_i (1 - q_i)  +  sum over pairs i != j of (q_ij - q_i q_j),
    where a ball is empty with probability q_i and a pair with q_ij. If c is the coverage, the first sum is at most
    m c (1 - c). In the second, balls that share mass p of the samples' distribution add at most n p q_ij, which is the
    expected number of samples that alone fill both: with s_j balls that only sample j fills, sum_j s_j (s_j - 1)
    estimates it. That balls compete for n samples takes about (sum_j s_j)^2 / n away. The variance over m c (1 - c) is
    the design effect by which m is divided (Kish 1965), 1 at least.

    The jackknife would take sum_j s_j for the first sum: a ball that expects t samples then adds t exp(-t), not
    exp(-t) (1 - exp(-t)). It counts the variance of what takes t samples together t times (Efron and Stein 1981), and
    where the distributions are equal a ball expects k n / m samples. At n = m its intervals are then 1.6 times as wide
    as they need be, these 1.1 times. They also have no width where every ball holds two samples.
    """
    count, balls = len(found.sole), len(found.of_balls)
    empty = int((found.of_balls == 0).sum())
    share = (empty + 2) / (balls + 4)  # of empty balls, never 0 or 1 (Agresti and Coull 1998)
    pairs = float((found.sole * (found.sole - 1)).sum()) - float(found.sole.sum()) ** 2 / count
    design_effect = max(1.0, 1 + pairs / (balls * share * (1 - share)))
    return of_share(1 - empty / balls, balls / design_effect)
