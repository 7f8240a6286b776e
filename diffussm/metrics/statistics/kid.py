"""KID (Binkowski et al. 2018): the estimate of torch-fidelity, from the same subsets, and its interval.

The kernel is computed once between all features, in blocks; what it sums to over each subset, and over each group of
the jackknife, are products of these blocks with matrices of zeros and ones.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffussm.metrics.statistics.jackknife import Interval, groups_of, interval, variance
from diffussm.metrics.statistics.protocol import Device, Estimate, MetricInputs

SUBSETS, SUBSET = 100, 1000
SEED = 2020  # of the subsets, torch-fidelity's
BLOCK = 2000  # rows of a kernel matrix at a time


def measure(inputs: MetricInputs) -> Estimate:
    """Return the KID of the features, with its interval."""
    return Estimate(*kernel_distance(inputs.samples, inputs.reference.features, inputs.device))


def kernel_distance(
    samples: NDArray[np.float32], reference: NDArray[np.float32], device: Device = "cpu"
) -> tuple[float, Interval | None]:
    """Return the KID of features (n, d) and (m, d), n and m >= 4, and its 95 % interval for the populations' distance.

    It is the mean over 100 subsets of 1,000, or of half of the smaller set if that is less. Its error has two parts:
    that of samples and reference, by the jackknife of the estimate from all pairs, and that of drawing 100 subsets.
    """
    size = min(SUBSET, len(samples) // 2, len(reference) // 2)
    of_samples, of_reference = _subsets(len(samples), len(reference), size)
    x, y = _Sets(samples, of_samples, device), _Sets(reference, of_reference, device)
    xx, yy, xy = x.sums(x), y.sums(y), x.sums(y)
    of_subsets = (xx.subsets + yy.subsets) / (size * (size - 1)) - 2 * xy.subsets / size**2
    value = float(of_subsets.mean())
    without_samples, without_reference = _without_each_group(x, y, xx.groups, yy.groups, xy.groups)
    squared_error = variance(without_samples) + variance(without_reference) + float(of_subsets.var()) / SUBSETS
    return value, interval(value, squared_error, min(x.groups, y.groups))


def _subsets(n: int, m: int, size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return which of n samples, and which of m of the reference, are in each subset, as 0 and 1: (100, n),
    (100, m)."""
    draws = np.random.RandomState(SEED)
    of_samples, of_reference = np.zeros((SUBSETS, n)), np.zeros((SUBSETS, m))
    for in_samples, in_reference in zip(of_samples, of_reference, strict=True):
        in_samples[draws.choice(n, size, replace=False)] = 1
        in_reference[draws.choice(m, size, replace=False)] = 1
    return of_samples, of_reference


def _without_each_group(
    x: "_Sets", y: "_Sets", xx: NDArray[np.float64], yy: NDArray[np.float64], xy: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the estimates from all pairs without each group of the samples, and without each of the reference."""
    return (
        np.array([_unbiased(x.without(g), y.sizes, _dropped(xx, g), yy, np.delete(xy, g, 0)) for g in range(x.groups)]),
        np.array([_unbiased(x.sizes, y.without(g), xx, _dropped(yy, g), np.delete(xy, g, 1)) for g in range(y.groups)]),
    )


def _dropped(sums: NDArray[np.float64], group: int) -> NDArray[np.float64]:
    return np.delete(np.delete(sums, group, 0), group, 1)


def _unbiased(
    sizes: NDArray[np.int64],
    of_reference: NDArray[np.int64],
    xx: NDArray[np.float64],
    yy: NDArray[np.float64],
    xy: NDArray[np.float64],
) -> float:
    """Return the unbiased estimate from the sizes of groups and the sums of the kernel between them, without the pairs
    of a sample with itself."""
    n, m = sizes.sum(), of_reference.sum()
    return float(xx.sum() / (n * (n - 1)) + yy.sum() / (m * (m - 1)) - 2 * xy.sum() / (n * m))


class _Sums(NamedTuple):
    """Sums of a kernel."""

    groups: NDArray[np.float64]  # (G, G') over pairs of groups
    subsets: NDArray[np.float64]  # (100,) within each subset


class _Sets:
    """Features (n, d), the group of each, and the subsets that each is in."""

    def __init__(self, features: NDArray[np.float32], subsets: NDArray[np.float64], device: Device):
        self._features = torch.from_numpy(features).to(device)
        group = groups_of(len(features))
        self.groups = int(group.max()) + 1
        self.sizes = np.bincount(group)
        members = np.concatenate([np.eye(self.groups)[:, group], subsets])
        self._members = torch.from_numpy(members).to(device)  # (G + 100, n)

    def without(self, group: int) -> NDArray[np.int64]:
        return np.delete(self.sizes, group)

    def sums(self, other: "_Sets") -> _Sums:
        """Return the sums of the kernel (x . y / d + 1)^3, without pairs of a feature with itself."""
        groups = self._members.new_zeros(self.groups, other.groups)
        subsets = self._members.new_zeros(SUBSETS)
        for rows in range(0, len(self._features), BLOCK):
            block, of_block = self._features[rows : rows + BLOCK], self._members[:, rows : rows + BLOCK]
            for columns in range(rows if self is other else 0, len(other._features), BLOCK):
                kernel = _cubic(block, other._features[columns : columns + BLOCK])
                members = other._members[:, columns : columns + BLOCK]
                if self is other and rows == columns:
                    kernel.fill_diagonal_(0)
                of_columns = of_block @ kernel.double()  # (G + 100, columns)
                between = of_columns[: self.groups] @ members[: other.groups].T
                within = (of_columns[self.groups :] * members[other.groups :]).sum(1)
                twice = self is other and rows != columns  # the block below the diagonal has the same
                groups += between + between.T if twice else between
                subsets += 2 * within if twice else within
        return _Sums(groups.cpu().numpy(), subsets.cpu().numpy())


def _cubic(x: Tensor, y: Tensor) -> Tensor:
    inner = x @ y.T / x.shape[1] + 1
    return inner * inner * inner
