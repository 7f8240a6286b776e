"""KID (Binkowski et al. 2018): torch-fidelity's estimate and its interval."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric

from diffussm.metrics.statistics.jackknife import Interval, groups_of, interval, variance
from diffussm.metrics.statistics.protocol import Estimate, MetricInputs

SUBSETS, SUBSET = 100, 1000
BLOCK = 2000  # rows of a kernel matrix at a time


def measure(inputs: MetricInputs) -> Estimate:
    """Return the KID of the features, with its interval."""
    return Estimate(*kernel_distance(inputs.samples, inputs.reference.features))


def kernel_distance(samples: NDArray[np.float32], reference: NDArray[np.float32]) -> tuple[float, Interval | None]:
    """Return the KID of features (n, d) and (m, d), n and m >= 4, and its 95 % interval for the populations' distance.

    It is the mean over 100 subsets of 1,000, or of half of the smaller set if that is less. Its error has two parts:
    that of samples and reference, by the jackknife of the estimate from all pairs, and that of drawing 100 subsets.
    """
    size = min(SUBSET, len(samples) // 2, len(reference) // 2)
    subsets = {"kid_subsets": SUBSETS, "kid_subset_size": size, "verbose": False}
    found = kid_features_to_metric(torch.from_numpy(samples), torch.from_numpy(reference), **subsets)
    value = found[KEY_METRIC_KID_MEAN]
    without_samples, without_reference = _without_each_group(samples, reference)
    subset_variance = found[KEY_METRIC_KID_STD] ** 2 / SUBSETS
    squared_error = variance(without_samples) + variance(without_reference) + subset_variance
    return value, interval(value, squared_error, min(len(without_samples), len(without_reference)))


def _without_each_group(samples: Any, reference: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the estimates from all pairs without each group of the samples, and without each of the reference."""
    x, y = _Grouped(samples), _Grouped(reference)
    xx, yy, xy = x.sums(x), y.sums(y), x.sums(y)
    return (
        np.array([_unbiased(x.without(g), y.sizes, _dropped(xx, g), yy, np.delete(xy, g, 0)) for g in range(x.groups)]),
        np.array([_unbiased(x.sizes, y.without(g), xx, _dropped(yy, g), np.delete(xy, g, 1)) for g in range(y.groups)]),
    )


def _dropped(sums: NDArray[np.float64], group: int) -> NDArray[np.float64]:
    return np.delete(np.delete(sums, group, 0), group, 1)


def _unbiased(n: Any, m: Any, xx: Any, yy: Any, xy: Any) -> float:
    """Return the unbiased estimate from the sizes of groups and the sums of the kernel between them, without the pairs
    of a sample with itself."""
    n, m = n.sum(), m.sum()
    return float(xx.sum() / (n * (n - 1)) + yy.sum() / (m * (m - 1)) - 2 * xy.sum() / (n * m))


class _Grouped:
    """Features (n, d) and the group of each."""

    def __init__(self, features: NDArray[np.float32]):
        self.features = torch.from_numpy(features)
        group = groups_of(len(features))
        self.groups = int(group.max()) + 1
        self.sizes = np.bincount(group)
        self.indicator = torch.from_numpy(np.eye(self.groups)[group])  # (n, G)

    def without(self, group: int) -> NDArray[np.int64]:
        return np.delete(self.sizes, group)

    def sums(self, other: "_Grouped") -> NDArray[np.float64]:
        """Return the sums of the kernel (x . y / d + 1)^3 over pairs of groups (G, G'), without pairs of a feature with
        itself."""
        total = torch.zeros(self.groups, other.groups, dtype=torch.float64)
        for rows in range(0, len(self.features), BLOCK):
            block, of_block = self.features[rows : rows + BLOCK], self.indicator[rows : rows + BLOCK]
            for columns in range(rows if self is other else 0, len(other.features), BLOCK):
                kernel = _cubic(block, other.features[columns : columns + BLOCK])
                if self is other and rows == columns:
                    kernel.fill_diagonal_(0)
                between = of_block.T @ kernel.double() @ other.indicator[columns : columns + BLOCK]
                total += between if self is not other or rows == columns else between + between.T
        return total.numpy()


def _cubic(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    inner = x @ y.T / x.shape[1] + 1
    return inner * inner * inner
