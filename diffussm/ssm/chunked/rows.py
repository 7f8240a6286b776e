"""How the batched form lays out sequences, and the products of what is laid out so.

Sequences are (D, C, R): positions of a chunk by rows, which are chunks of a group, groups, and sequences of the batch.
A sequence of one chunk has no states. One tensor has the states that enter chunks and the input, [h_0 | x | h_1], of
which each layer reads neighbours; another one the gradients of outputs and of what is added to states,
[g_0 | ds_0 | ds_1 | g_1].
"""

import torch
from torch import Tensor

from diffussm.ssm.backends import Chunks
from diffussm.ssm.parameters import S4DParameters


def states_of(p: S4DParameters, cut: Chunks) -> int:
    """Return N, or 0 where no state is carried."""
    return 2 * p.log_decay.shape[2] if cut.number > 1 else 0


def with_states(x: Tensor, layer: int, states: int) -> Tensor:
    """Return the rows that one layer reads: its states and the input, or the input and its states."""
    return x.narrow(1, layer * states, x.shape[1] - states)


def both_states(x: Tensor, states: int) -> Tensor:
    """Return the states of both layers, which lie before and after the input: (D, 2, N, R)."""
    return x.unfold(1, states, x.shape[1] - states).mT


def both_outputs(g: Tensor, states: int) -> Tensor:
    """Return the gradients of the outputs of both layers, the first and the last rows: (D, 2, C, R)."""
    chunk = g.shape[1] // 2 - states
    return g.unfold(1, chunk, chunk + 2 * states).mT


def to_rows(u: Tensor, cut: Chunks, target: Tensor) -> None:
    """Copy sequences (B, L, D) into (D, C, R), or (B, L, 2D) into (D, 2, C, R)."""
    batch, length, _ = u.shape
    if cut.padded > length:  # zeros at the end feed no state that any kept output sees
        u = torch.nn.functional.pad(u, (0, 0, 0, cut.padded - length))
    if target.dim() == 3:
        target = target[:, None]
    width, layers, chunk, _ = target.shape
    by_chunk = u.unflatten(1, (*reversed(cut.groups), chunk)).unflatten(-1, (layers, width))
    target.unflatten(3, (*cut.groups, batch)).copy_(by_chunk.permute(*reversed(range(by_chunk.dim()))))


def from_rows(y: Tensor, cut: Chunks, length: int) -> Tensor:
    """Return (layers, D, C, R) as contiguous sequences (B, L, layers D)."""
    layers, width, _, rows = y.shape
    batch = rows // cut.number
    by_chunk = y.transpose(0, 1).unflatten(3, (*cut.groups, batch))
    y = by_chunk.permute(*reversed(range(by_chunk.dim()))).reshape(batch, cut.padded, layers * width)
    return y[:, :length].contiguous()


def product(a: Tensor, b: Tensor, dtype: torch.dtype, out: Tensor | None = None) -> Tensor:
    """Return the products of batches of matrices in `dtype`, in which they add up."""
    how = {} if out is None else {"out": out}
    if a.dtype == dtype:
        return torch.bmm(a, b, **how)
    if a.device.type == "cpu":  # torch has no such product for CPUs
        return torch.bmm(a.to(dtype), b.to(dtype), **how)
    return torch.bmm(a, b, out_dtype=dtype, **how)
