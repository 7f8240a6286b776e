"""FID and sFID: the distance at n, its interval over samples, its extrapolation and the noise floor."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffussm.metrics.statistics.frechet import BLOCK, FrechetDistance, Moments, Statistics
from diffussm.metrics.statistics.jackknife import groups_of, interval, variance
from diffussm.metrics.statistics.protocol import Estimate, MetricInputs
from diffussm.rng import Stream, integers, random_words

FLOOR_DRAWS = 20
EXTRAPOLATION_SIZES = 15  # numbers of samples, from half of them to all


def frechet(inputs: MetricInputs) -> Estimate:
    """Return the FID of the features, or the sFID of the spatial layer."""
    return frechet_estimate(inputs.samples, inputs.reference.distance, inputs.reference.floor)


def frechet_estimate(features: NDArray[Any], distance: FrechetDistance, floor: float | None = None) -> Estimate:
    """Return the distance of features (n, d), its interval, its extrapolation if n >= 2 d, and `floor`."""
    group = groups_of(len(features))
    groups, moments = int(group.max()) + 1, Moments.of(features)
    statistics = moments.statistics
    value = distance(statistics)
    found = None
    if groups > 1:  # one group at a time: its moments are as large as a covariance
        without = [
            distance((moments - Moments.of(features, np.flatnonzero(group == g))).statistics) for g in range(groups)
        ]
        found = interval(value, variance(without), groups)
    infinity = extrapolated(features, distance) if len(features) >= 2 * features.shape[1] else None
    return Estimate(value, found, floor, infinity, distance.rounding(statistics))


def extrapolated(features: NDArray[Any], distance: FrechetDistance) -> float:
    """Return the distance of features (n, d), n >= 2 d, extrapolated to infinite n (Chong and Forsyth 2020).

    Its bias is C / n, so a line in 1 / n is fitted to the distances of subsets of 15 sizes and evaluated at 1 / n = 0.
    The sizes range from n / 2 to n; from n / 10, as in the paper, the smallest would bend the line (at n = 4 d by half
    of the bias). The bias of the reference remains.
    """
    count = len(features)
    sizes = np.linspace(count / 2, count, EXTRAPOLATION_SIZES).astype(int)
    distances = []
    for draw, size in enumerate(sizes):
        order = np.argsort(random_words(0, Stream.EXTRAPOLATION, draw, 0, 1, count)[0], kind="stable")
        distances.append(distance(Moments.of(features, np.sort(order[:size])).statistics))
    slope_and_intercept = np.polyfit(1 / sizes, distances, 1)
    return float(slope_and_intercept[1])


def noise_floor(reference: NDArray[Any], samples: int) -> float:
    """Return the distance of `samples` real images, drawn with replacement from features (m, d), to all of them, as the
    mean of 20 draws.

    It is the score of a perfect generator at this n: the bias of a finite sample alone.
    """
    distance = FrechetDistance(Statistics.of(reference))
    draws = (integers(0, Stream.FLOOR, draw, 0, samples, len(reference)) for draw in range(FLOOR_DRAWS))
    return float(np.mean([distance(_drawn(reference, index)) for index in draws]))


def _drawn(features: NDArray[Any], index: NDArray[np.int64]) -> Statistics:
    """Return the statistics of features[index], with each feature weighted by its multiplicity, in blocks."""
    times = np.bincount(index, minlength=len(features)).astype(np.float64)
    blocks = [slice(start, start + BLOCK) for start in range(0, len(features), BLOCK)]
    mean = sum(times[block] @ features[block] for block in blocks) / len(index)
    scatter = np.zeros((features.shape[1], features.shape[1]))
    for block in blocks:
        deviations = (features[block] - mean) * np.sqrt(times[block])[:, None]
        scatter += deviations.T @ deviations
    return Statistics(mean, scatter / (len(index) - 1))
