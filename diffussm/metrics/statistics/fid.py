"""FID and sFID: the distance at n, its interval over samples, its extrapolation and the noise floor."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffussm.metrics.statistics.frechet import BLOCK, FrechetDistance, Moments, Statistics
from diffussm.metrics.statistics.jackknife import groups_of, interval, variance
from diffussm.metrics.statistics.protocol import Estimate, MetricInputs
from diffussm.rng import Stream, integers, words

FLOOR_DRAWS = 20
EXTRAPOLATED_FROM = 15  # numbers of samples, from half of them to all


def frechet(inputs: MetricInputs) -> Estimate:
    """FID of the features, sFID of the spatial layer."""
    return frechet_estimate(inputs.samples, inputs.reference.distance, inputs.reference.floor)


def frechet_estimate(features: NDArray[Any], distance: FrechetDistance, floor: float | None = None) -> Estimate:
    """The distance of features (n, d), its interval, and its extrapolation where n >= 2 d; `floor` is passed on."""
    group = groups_of(len(features))
    groups, whole = int(group.max()) + 1, Moments.of(features)
    value = distance(whole.statistics)
    found = None
    if groups > 1:  # parts one at a time: each is as large as a covariance
        without = [
            distance((whole - Moments.of(features, np.flatnonzero(group == g))).statistics) for g in range(groups)
        ]
        found = interval(value, variance(without), groups)
    infinity = extrapolated(features, distance) if len(features) >= 2 * features.shape[1] else None
    return Estimate(value, found, floor, infinity)


def extrapolated(features: NDArray[Any], distance: FrechetDistance) -> float:
    """The distance of infinitely many samples, of features (n, d) with n >= 2 d (Chong and Forsyth 2020).

    Its bias is C / n: a line in 1 / n through the distances of subsets of 15 sizes, at 1 / n = 0. They go from n / 2 to
    n; from n / 10, as in the paper, the smallest ones bend the line (at n = 4 d by half of the bias). The bias of the
    reference stays.
    """
    count = len(features)
    sizes = np.linspace(count / 2, count, EXTRAPOLATED_FROM).astype(int)
    distances = []
    for draw, size in enumerate(sizes):
        order = np.argsort(words(0, Stream.EXTRAPOLATION, draw, 0, 1, count)[0], kind="stable")
        distances.append(distance(Moments.of(features, np.sort(order[:size])).statistics))
    slope_and_intercept = np.polyfit(1 / sizes, distances, 1)
    return float(slope_and_intercept[1])


def noise_floor(reference: NDArray[Any], samples: int) -> float:
    """The distance of `samples` real images, drawn with replacement from features (m, d), to all of them: mean of 20.

    What a perfect generator would score at this n: the bias of a finite sample and nothing else.
    """
    distance = FrechetDistance(Statistics.of(reference))
    draws = (integers(0, Stream.FLOOR, draw, 0, samples, len(reference)) for draw in range(FLOOR_DRAWS))
    return float(np.mean([distance(_drawn(reference, index)) for index in draws]))


def _drawn(features: NDArray[Any], index: NDArray[np.int64]) -> Statistics:
    """Of features[index], each feature once with its multiplicity, `BLOCK` at a time."""
    times = np.bincount(index, minlength=len(features)).astype(np.float64)
    blocks = [slice(start, start + BLOCK) for start in range(0, len(features), BLOCK)]
    mean = sum(times[block] @ features[block] for block in blocks) / len(index)
    scatter = np.zeros((features.shape[1], features.shape[1]))
    for block in blocks:
        deviations = (features[block] - mean) * np.sqrt(times[block])[:, None]
        scatter += deviations.T @ deviations
    return Statistics(mean, scatter / (len(index) - 1))
