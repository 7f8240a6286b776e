"""Density and coverage (Naeem et al. 2020): how samples fill the balls around the images of the reference.

The radius of a reference image's ball is the distance to its fifth nearest neighbour among the others. The balls are
open, as in the authors' code, so that the density of the reference itself is 1. Density is the mean number of balls
that contain a sample, divided by 5; coverage is the share of balls that contain a sample. Unlike in recall, the balls
do not depend on the samples, so an outlier among the samples adds none.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from diffussm.metrics.statistics.distances import BLOCK, distances
from diffussm.metrics.statistics.jackknife import Interval, interval, wilson_interval
from diffussm.metrics.statistics.protocol import Device, Estimate, MetricInputs

NEIGHBOURS = 5  # k


class Occupancy(NamedTuple):
    """Counts of samples in balls, from which density and coverage are computed."""

    balls_per_sample: NDArray[np.int64]  # (n,)
    samples_per_ball: NDArray[np.int64]  # (m,)
    exclusive_balls: NDArray[np.int64]  # (n,) balls that contain this sample and no other


def density(inputs: MetricInputs) -> Estimate:
    """Return the density of the features, with its interval.

    For a given reference it is a mean over independent samples, so its delete-one jackknife is the standard error of
    the mean, without noise from a choice of groups.
    """
    per_sample = inputs.shared(occupancy).balls_per_sample / NEIGHBOURS
    value, count = float(per_sample.mean()), len(per_sample)
    found = interval(value, float(per_sample.var(ddof=1)) / count, count)
    return Estimate(value, found and Interval(max(0.0, found.low), found.high))


def coverage(inputs: MetricInputs) -> Estimate:
    """Return the coverage of the features, with its interval."""
    found = inputs.shared(occupancy)
    return Estimate(float((found.samples_per_ball > 0).mean()), coverage_interval(found))


def occupancy(samples: NDArray[np.float32], reference: NDArray[np.float32], device: Device = "cpu") -> Occupancy:
    """Return the counts for features (n, d) and (m, d), n > 1 and m > 5, in blocks of 500 rows of distances."""
    x, y = torch.from_numpy(samples).to(device), torch.from_numpy(reference).to(device)
    balls_per_sample, exclusive_balls = torch.zeros(2, len(x), dtype=torch.int64, device=device)
    samples_per_ball = torch.zeros(len(y), dtype=torch.int64, device=device)
    for start in range(0, len(y), BLOCK):
        centres = y[start : start + BLOCK]
        radii = distances(centres, y).kthvalue(NEIGHBOURS + 1).values  # the first is the centre itself
        inside = distances(centres, x) < radii[:, None]
        contained = inside.sum(1)
        balls_per_sample += inside.sum(0)
        exclusive_balls += inside[contained == 1].sum(0)
        samples_per_ball[start : start + BLOCK] = contained
    return Occupancy(*(counts.cpu().numpy() for counts in (balls_per_sample, samples_per_ball, exclusive_balls)))


def coverage_interval(found: Occupancy) -> Interval:
    """Return the 95 % interval over samples: Wilson's, for the number of independent balls with the same variance.

    The number of empty balls has the variance
      sum_i q_i (1 - q_i)  +  sum over pairs i != j of (q_ij - q_i q_j),
    where a ball is empty with probability q_i and a pair with q_ij. If c is the coverage, the first sum is at most
    m c (1 - c). In the second, balls that share mass p of the samples' distribution add at most n p q_ij, the expected
    number of samples that alone fill both; if only sample j fills s_j balls, sum_j s_j (s_j - 1) estimates it. The
    competition of the balls for n samples subtracts about (sum_j s_j)^2 / n. The variance divided by m c (1 - c) is the
    design effect by which m is divided (Kish 1965), at least 1.

    The jackknife would use sum_j s_j for the first sum: a ball with t expected samples would add t exp(-t) instead of
    exp(-t) (1 - exp(-t)). It counts an effect that needs t samples together t times (Efron and Stein 1981); if the
    distributions are equal, a ball has k n / m expected samples. At n = m its intervals would be 1.6 times as wide as
    necessary, these are 1.1 times. They would also have no width if every ball contained two samples.
    """
    exclusive = found.exclusive_balls
    count, balls = len(exclusive), len(found.samples_per_ball)
    empty = int((found.samples_per_ball == 0).sum())
    share = (empty + 2) / (balls + 4)  # of empty balls, never 0 or 1 (Agresti and Coull 1998)
    pairs = float((exclusive * (exclusive - 1)).sum()) - float(exclusive.sum()) ** 2 / count
    design_effect = max(1.0, 1 + pairs / (balls * share * (1 - share)))
    return wilson_interval(1 - empty / balls, balls / design_effect)
