"""The states that chunks hand to each other, by products over groups of chunks.

With s_k the state that chunk k adds, h_k = sum_(j < k) f^(k - 1 - j) s_j enters chunk k; f = a^C is complex, as are
states. Within a group of g chunks that is one product with a triangular matrix for each pair. A group as a whole adds
sum_j f^(g - 1 - j) s_j; what enters groups is carried in the same way, with f^g in place of f, and then reaches their
chunks times f^k. A layer that runs right to left is the mirror image.

Real and imaginary parts are rows of their own, so that all products are real. The adjoint is the transpose.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Level(NamedTuple):
    """Matrices for each of Q pairs of a group of g chunks, or of g groups; rows and columns are parts x chunks."""

    within: Tensor  # (Q, 2g, 2g): what the group adds -> what enters its chunks
    whole: Tensor  # (Q, 2, 2g): what the group adds -> what it adds as a whole
    onward: Tensor  # (Q, 2g, 2): what enters the group -> what of it enters its chunks


def carry(s: Tensor, levels: Sequence[Level]) -> Tensor:
    """Return what enters chunks (Q, 2g, R) from what they add (Q, 2g, R); R are the groups of each sequence, the groups
    of groups and so on, and the sequences."""
    level, *above = levels
    h = torch.bmm(level.within, s)
    if above:
        whole = torch.bmm(level.whole, s)  # (Q, 2, R)
        entering = carry(whole.view(whole.shape[0], above[0].within.shape[1], -1), above)
        h.baddbmm_(level.onward, entering.view_as(whole))
    return h


def adjoint(levels: Sequence[Level]) -> list[Level]:
    """Return the levels with which `carry` maps gradients of what enters to those of what is added."""
    return [Level(level.within.mT, level.onward.mT, level.whole.mT) for level in levels]


def levels(z: Tensor, chunk: int, groups: Sequence[int], reverse: bool, dtype: torch.dtype) -> list[Level]:
    """Return the matrices for exponents z (D, 2, N/2) of two layers, the second from right to left if `reverse`."""
    made, step = [], chunk
    for size in groups:
        powers = (z[..., None] * (step * torch.arange(size, device=z.device))).exp().to(dtype.to_complex())
        made.append(_level(powers, reverse))
        step *= size
    return made


def _level(powers: Tensor, reverse: bool) -> Level:
    """Return the matrices from f^k (D, 2, N/2, g), k < g."""
    size = powers.shape[-1]
    zeros = powers.new_zeros(*powers.shape[:-1], size)
    lags = _mirrored(torch.cat([zeros, powers[..., :-1]], dim=-1), reverse)  # (D, 2, N/2, 2g - 1): of k - j from 1 - g
    descending = powers.flip(-1)
    after = torch.stack([powers[:, 0], (descending if reverse else powers)[:, 1]], dim=1)
    before = torch.stack([descending[:, 0], (powers if reverse else descending)[:, 1]], dim=1)
    position = torch.arange(size, device=powers.device)
    lag = (position[:, None] - position + size - 1).view(1, size, 1, size)
    part = torch.arange(4, device=powers.device).view(2, 1, 2, 1)
    index = part * (2 * size - 1) + lag  # (2, g, 2, g)
    within = _parts(lags).flatten(-2).index_select(-1, index.flatten())
    return Level(
        within.view(-1, 2 * size, 2 * size),
        _parts(before).view(-1, 2, 2 * size),
        _parts(after).unflatten(-2, (2, 2)).transpose(-1, -2).reshape(-1, 2 * size, 2),
    )


def _mirrored(x: Tensor, reverse: bool) -> Tensor:
    """Return x (D, 2, N/2, n), that of the second layer in reverse order if `reverse`."""
    return torch.stack([x[:, 0], x[:, 1].flip(-1)], dim=1) if reverse else x


def _parts(x: Tensor) -> Tensor:
    """Return the matrices [[Re, -Im], [Im, Re]] of complex factors: (..., n) -> (..., 4, n) real."""
    return torch.stack([x.real, -x.imag, x.imag, x.real], dim=-2)
