"""S4D in chunks in a form for GPUs: all channels at once, and a fixed number of kernels for any length up to groups.

The equations are those of `blocks`. Products take their inputs in the precision of u, such as bfloat16 under autocast,
in which tensor cores multiply; they add up in float32, in which states are carried from chunk to chunk, by products
over groups of chunks (`carry`). What the backward pass needs is kept in the precision of u: the input and the states
that enter chunks, which are one tensor, so that one product for each layer takes both:

    forward    y = [W | T] [h | x]
    backward   dx = [T_0 | V_0 | V_1 | T_1] [g_0 | ds_0 | ds_1 | g_1]

where T[i, j] = K_(i - j) and h, s and their gradients are states. Tables are made again in the backward pass: with
chunks of 128 positions they are as large as the sequences of 32 images.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from diffussm.precision import matrix_products
from diffussm.ssm.backends import Chunks, batched_chunks
from diffussm.ssm.chunked import factors
from diffussm.ssm.chunked.carry import Level, adjoint, carry, levels
from diffussm.ssm.chunked.gradients import of_parameters
from diffussm.ssm.chunked.rows import (
    both_outputs,
    both_states,
    from_rows,
    product,
    states_of,
    to_rows,
    with_states,
)
from diffussm.ssm.operators import Gradients, Kernels, operator
from diffussm.ssm.parameters import (
    Discretised,
    S4DParameters,
    discretise,
    discretise_backward,
    discretised_empty,
    without_autocast,
)


class _Tables(NamedTuple):
    """Tables of two layers in the precision of u; those for states are None for a sequence of one chunk."""

    powers: factors.Factors
    by_lag: Tensor  # (2, D, 2C - 1): K
    inward: Tensor | None  # (D, C, 2, N): V
    outward: Tensor | None  # (2, D, C, N): W


@without_autocast
def forward(p: S4DParameters, u: Tensor, bidirectional: bool) -> tuple[Tensor, list[Tensor]]:
    """Return y (B, L, 2D); and, for the backward pass, discretisation, and input and states (D, N + C + N, R)."""
    discretised, cut = discretise(p), batched_chunks(u.shape[1])
    batch, length, width = u.shape
    states = states_of(p, cut)
    tables = _tables(p, discretised, u.dtype, cut, bidirectional)
    x = u.new_empty(width, cut.length + 2 * states, cut.number * batch)
    inputs = x.narrow(1, states, cut.length)
    to_rows(u, cut, inputs)
    if tables.inward is not None:
        s = product(tables.inward.flatten(2).mT, inputs, p.skip.dtype)  # (D, 2N, R)
        entering = _carry(s, cut, _levels(p, discretised, cut, bidirectional))
        both_states(x, states).copy_(entering.view(width, 2, states, -1))
        del s, entering
    y = u.new_empty(2, *inputs.shape)
    for layer, table in enumerate(factors.matrix(tables.by_lag)):
        if tables.outward is not None:
            parts = [tables.outward[layer], table]
            table = torch.cat(parts if layer == 0 else parts[::-1], dim=-1)  # (D, C, N + C) or (D, C, C + N)
        torch.bmm(table, with_states(x, layer, states), out=y[layer])
    return from_rows(y, cut, length), [*discretised, x]


def empty(p: S4DParameters, u: Tensor, _: bool) -> tuple[Tensor, list[Tensor]]:
    """Return what `forward` returns, without values."""
    batch, length, width = u.shape
    cut = batched_chunks(length)
    x = u.new_empty(width, cut.length + 2 * states_of(p, cut), cut.number * batch)
    return u.new_empty(batch, length, 2 * width), [*discretised_empty(p), x]


@without_autocast
def backward(p: S4DParameters, kept: list[Tensor], dy: Tensor, bidirectional: bool) -> Gradients:
    """Return the gradients with respect to u and each parameter."""
    discretised, x = Discretised(*kept[:4]), kept[4]
    length, cut = dy.shape[1], batched_chunks(dy.shape[1])
    tables, states = _tables(p, discretised, x.dtype, cut, bidirectional), states_of(p, cut)
    g = x.new_empty(x.shape[0], 2 * (cut.length + states), x.shape[2])  # [g_0 | ds_0 | ds_1 | g_1]
    to_rows(dy, cut, both_outputs(g, states))
    if tables.outward is not None:
        carried = adjoint(_levels(p, discretised, cut, bidirectional))
        _gradient_of_states(tables.outward, g, cut, carried, p.skip.dtype)
    du = from_rows(torch.bmm(_backward_table(tables, states), g)[None], cut, length)
    powers = tables.powers
    del tables
    dz, dc, dskip = of_parameters(discretised, powers, x, g, states, bidirectional)
    return du, *discretise_backward(p, discretised, dz, dc), dskip


convolve = operator("chunked_batched", Kernels(forward, backward, empty, needs_input=False))


def _tables(p: S4DParameters, made: Discretised, dtype: torch.dtype, cut: Chunks, reverse: bool) -> _Tables:
    powers = factors.factors(made.z, cut.length, p.skip.dtype)
    outward = factors.outward(made, powers, reverse)
    by_lag = factors.toeplitz(made, outward, p.skip, reverse, dtype)
    if cut.number == 1:
        return _Tables(powers, by_lag, None, None)
    outward = outward.to(dtype)
    inward = powers.ordered(True, not reverse).table().permute(1, 2, 0, 3)
    return _Tables(powers, by_lag, inward.to(dtype, memory_format=torch.contiguous_format).contiguous(), outward)


def _backward_table(tables: _Tables, states: int) -> Tensor:
    """Return [T_0 | V_0 | V_1 | T_1], the first and last of them transposed: (D, C, 2C + 2N)."""
    transposed = factors.matrix(tables.by_lag.flip(-1))
    _, width, chunk, _ = transposed.shape
    table = transposed.new_empty(width, chunk, 2 * (chunk + states))
    table.unfold(2, chunk, chunk + 2 * states).copy_(transposed.permute(1, 2, 0, 3))
    if tables.inward is not None:
        table.narrow(2, chunk, 2 * states).copy_(tables.inward.flatten(2))
    return table


def _gradient_of_states(outward: Tensor, g: Tensor, cut: Chunks, carried: list[Level], wide: torch.dtype) -> None:
    """Put the gradients of what is added to states into their place in g, beside those of outputs."""
    _, width, chunk, states = outward.shape
    outputs = both_outputs(g, states)
    entering = g.new_empty(width, 2, states, g.shape[2], dtype=wide)
    for layer in (0, 1):
        product(outward[layer].mT, outputs[:, layer], wide, out=entering[:, layer])
    added = _carry(entering, cut, carried)
    g.narrow(1, chunk, 2 * states).copy_(added.view(width, 2 * states, -1))


def _levels(p: S4DParameters, made: Discretised, cut: Chunks, reverse: bool) -> list[Level]:
    return levels(made.z.transpose(0, 1), cut.length, cut.groups, reverse, p.skip.dtype)


def _carry(s: Tensor, cut: Chunks, levels: list[Level]) -> Tensor:
    """Carry states (D, 2N, R) or (D, 2, N, R) from chunk to chunk, in float32."""
    by_pairs = s.view(-1, 2 * cut.groups[0], s.shape[-1] // cut.groups[0])  # (2 D N/2, 2g, R/g)
    with matrix_products(tf32=False):
        return carry(by_pairs, levels)
