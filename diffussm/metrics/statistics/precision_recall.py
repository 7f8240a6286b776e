"""Precision and recall (Kynkaanniemi et al. 2019): torch-fidelity's, and recall's interval.

ADM's evaluator computes the same from the same features, with distances in float16; here they are in float32.
Whether a sample lies within the reference's manifold does not depend on other samples, so precision is a plain share;
recall is not.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_fidelity.metric_prc import calc_cdist_part, calculate_precision_recall_part

from diffussm.metrics.statistics.jackknife import Interval, groups_of, interval, of_share, variance
from diffussm.metrics.statistics.protocol import Estimate, MetricInputs

NEIGHBOURS = 3  # k
BLOCK = 500  # rows of distances at once
KEPT = 16  # nearest neighbours kept, so that three are left without any one group


def precision(inputs: MetricInputs) -> Estimate:
    """Precision of the features, with Wilson's interval."""
    share = inputs.shared(precision_recall)[0]
    return Estimate(share, of_share(share, len(inputs.samples)))


def recall(inputs: MetricInputs) -> Estimate:
    """Recall of the features, with the jackknife's interval."""
    share = inputs.shared(precision_recall)[1]
    return Estimate(share, recall_interval(share, inputs.samples, inputs.reference.features))


def precision_recall(samples: NDArray[np.float32], reference: NDArray[np.float32]) -> tuple[float, float]:
    """Of features (n, d) and (m, d), n and m > 3, in blocks: no more than 500 rows of distances at once."""
    x, y = torch.from_numpy(samples), torch.from_numpy(reference)
    return calculate_precision_recall_part(x, y, NEIGHBOURS, BLOCK)


def recall_interval(value: float, samples: NDArray[np.float32], reference: NDArray[np.float32]) -> Interval | None:
    """95 % over samples, by the jackknife: without each group some balls are gone and others are larger."""
    x, y = torch.from_numpy(samples), torch.from_numpy(reference)
    group = torch.from_numpy(groups_of(len(x)))
    groups = int(group.max()) + 1
    radii = _radii_without_each_group(x, group, groups)
    covered = torch.zeros(groups, dtype=torch.int64)
    for block in y.split(BLOCK):
        distances = calc_cdist_part(block, x, BLOCK)
        for without in range(groups):
            covered[without] += (distances <= radii[without]).any(1).sum()
    found = interval(value, variance((covered / len(y)).double().numpy()), groups)
    return found and Interval(max(0.0, found.low), min(1.0, found.high))


def _radii_without_each_group(x: Tensor, group: Tensor, groups: int) -> Tensor:
    """Distance of each sample to its third neighbour among those not in a group, (G, n); -1 in the group itself."""
    kept = min(KEPT, len(x))
    radii = torch.empty(groups, len(x))
    for start in range(0, len(x), BLOCK):
        rows = slice(start, start + BLOCK)
        near, index = calc_cdist_part(x[rows], x, BLOCK).topk(kept, largest=False)  # the first is the sample itself
        theirs = group[index]
        for without in range(groups):
            stays = theirs != without
            rank = stays.cumsum(1)
            # of those that stay the first is the sample itself, the fourth its third neighbour
            position = (stays & (rank == NEIGHBOURS + 1)).int().argmax(1)
            position[rank[:, -1] <= NEIGHBOURS] = kept - 1
            radii[without, rows] = near.gather(1, position[:, None])[:, 0]
        radii[:, rows][group[rows] == torch.arange(groups)[:, None]] = -1
    return radii
