"""Precision and recall (Kynkaanniemi et al. 2019), and their intervals.

ADM's evaluator computes the same from the same features, with distances in float16; here they are in float32. Whether
a sample lies within the reference's manifold does not depend on other samples, so precision is a share of independent
samples; recall is not.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffussm.metrics.statistics.distances import BLOCK, distances
from diffussm.metrics.statistics.jackknife import Interval, groups_of, interval, variance, wilson_interval
from diffussm.metrics.statistics.protocol import Device, Estimate, MetricInputs

NEIGHBOURS = 3  # k
CANDIDATES = 16  # nearest neighbours kept, so that three remain without any one group


def precision(inputs: MetricInputs) -> Estimate:
    """Return the precision of the features, with Wilson's interval."""
    share = inputs.shared(precision_recall)[0]
    return Estimate(share, wilson_interval(share, len(inputs.samples)))


def recall(inputs: MetricInputs) -> Estimate:
    """Return the recall of the features, with its jackknife interval."""
    share = inputs.shared(precision_recall)[1]
    return Estimate(share, recall_interval(share, inputs.samples, inputs.reference.features, inputs.device))


def precision_recall(
    samples: NDArray[np.float32], reference: NDArray[np.float32], device: Device = "cpu"
) -> tuple[float, float]:
    """Return both for features (n, d) and (m, d), n and m > 3, computed in blocks of 500 rows of distances."""
    x, y = torch.from_numpy(samples).to(device), torch.from_numpy(reference).to(device)
    return _covered(x, y), _covered(y, x)


def _covered(points: Tensor, centres: Tensor) -> float:
    """Return the share of points that lie in a ball round a centre which reaches to its third neighbour."""
    radii = torch.cat([distances(part, centres).kthvalue(NEIGHBOURS + 1).values for part in centres.split(BLOCK)])
    inside = torch.cat([(distances(part, centres) <= radii).any(dim=1) for part in points.split(BLOCK)])
    return inside.float().mean().item()


def recall_interval(
    value: float, samples: NDArray[np.float32], reference: NDArray[np.float32], device: Device = "cpu"
) -> Interval | None:
    """Return the 95 % interval over samples by the jackknife: without a group, its balls are gone and others larger."""
    x, y = torch.from_numpy(samples).to(device), torch.from_numpy(reference).to(device)
    group = torch.from_numpy(groups_of(len(x))).to(device)
    groups = int(group.max()) + 1
    radii = _radii_without_each_group(x, group, groups)
    covered = torch.zeros(groups, dtype=torch.int64, device=device)
    for block in y.split(BLOCK):
        to_samples = distances(block, x)
        for without in range(groups):
            covered[without] += (to_samples <= radii[without]).any(1).sum()
    found = interval(value, variance((covered.cpu() / len(y)).double().numpy()), groups)
    return found and Interval(max(0.0, found.low), min(1.0, found.high))


def _radii_without_each_group(x: Tensor, group: Tensor, groups: int) -> Tensor:
    """Return the distance of each sample to its third neighbour outside each group, (G, n); -1 for the group itself."""
    candidates = min(CANDIDATES, len(x))
    radii = torch.empty(groups, len(x), device=x.device)
    each = torch.arange(groups, device=x.device)[:, None]
    for start in range(0, len(x), BLOCK):
        rows = slice(start, start + BLOCK)
        near, index = distances(x[rows], x).topk(candidates, largest=False)  # the first is the sample itself
        group_of_neighbour = group[index]
        for without in range(groups):
            remains = group_of_neighbour != without
            rank = remains.cumsum(1)
            # of those that remain, the first is the sample itself and the fourth its third neighbour
            position = (remains & (rank == NEIGHBOURS + 1)).int().argmax(1)
            position[rank[:, -1] <= NEIGHBOURS] = candidates - 1
            radii[without, rows] = near.gather(1, position[:, None])[:, 0]
        radii[:, rows][group[rows] == each] = -1
    return radii
