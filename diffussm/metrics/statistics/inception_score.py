"""Inception Score (Salimans et al. 2016) as in ADM's evaluator, and its interval."""

import numpy as np
import torch
from numpy.typing import NDArray

from diffussm.metrics.statistics.jackknife import Interval, groups_of, interval, variance
from diffussm.metrics.statistics.protocol import Estimate, MetricInputs

SPLIT = 5000


def measure(inputs: MetricInputs) -> Estimate:
    """Return the Inception Score of the logits, with its interval."""
    return Estimate(*inception_score(inputs.samples))


def inception_score(logits: NDArray[np.float32]) -> tuple[float, Interval | None]:
    """Return the mean score over splits of 5,000 logits (n, classes) in their order, and its 95 % interval at this n.

    ADM uses splits of a fixed size and does not shuffle; torch-fidelity uses a fixed number of splits, and shuffles by
    default.
    """
    splits = [logits[start : start + SPLIT] for start in range(0, len(logits), SPLIT)]
    group = groups_of(len(logits))
    groups = int(group.max()) + 1
    value, without = 0.0, np.zeros(groups)
    for i, split in enumerate(splits):
        of_all, of_the_others = _scores(split, group[i * SPLIT : i * SPLIT + len(split)], groups)
        value += of_all / len(splits)
        without += of_the_others / len(splits)
    return value, interval(value, variance(without), groups)


def _scores(logits: NDArray[np.float32], group: NDArray[np.int64], groups: int) -> tuple[float, NDArray[np.float64]]:
    """Return the score of a split, and those without each group (G,): exp of the mean negative entropy minus that of
    the mean."""
    log_p = torch.from_numpy(logits).double().log_softmax(1)
    p = log_p.exp()
    indicator = torch.from_numpy(np.eye(groups)[group])  # (n, G)
    negative_entropy = (p * log_p).sum(1) @ indicator  # (G,)
    probability, size = indicator.T @ p, indicator.sum(0)  # (G, classes), (G,)
    total_probability, total_entropy = probability.sum(0), negative_entropy.sum()
    mean_of_all = total_probability / len(logits)
    of_all = (total_entropy / len(logits) - torch.xlogy(mean_of_all, mean_of_all).sum()).exp().item()
    remaining = size.sum() - size
    is_all = (remaining == 0)[:, None]  # a short last split may be one group, which is then not left out
    probability, negative_entropy = probability * ~is_all, negative_entropy * ~is_all[:, 0]
    remaining = remaining.where(~is_all[:, 0], size)
    mean = (total_probability - probability) / remaining[:, None]
    entropy_of_mean = torch.xlogy(mean, mean).sum(1)
    return of_all, ((total_entropy - negative_entropy) / remaining - entropy_of_mean).exp().numpy()
