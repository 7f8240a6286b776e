"""Euclidean distances between features, some rows of them at a time."""

import torch
from torch import Tensor

BLOCK = 500  # rows, and columns that are computed at once


def distances(x: Tensor, y: Tensor) -> Tensor:
    """Return the distances (n, m) of features (n, d) and (m, d), n <= 500, on their device."""
    return torch.cat([torch.cdist(x, part) for part in y.split(BLOCK)], dim=1)
