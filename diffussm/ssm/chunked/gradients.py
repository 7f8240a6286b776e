"""The gradients of S4D's parameters from the products of the batched form.

With G_l the gradient of c a^l, in the kernel and out of states, and F_l that of a^l, into states and, for l = C, in the
carry: dc = sum_l G_l conj(a^l), and dz = sum_l l (conj(c) G_l + F_l) conj(a^l).
"""

import torch
from torch import Tensor

from diffussm.ssm.chunked.factors import Factors, weighted_sums, weighted_sums_of_kernel
from diffussm.ssm.chunked.rows import both_outputs, both_states, product, with_states
from diffussm.ssm.parameters import Discretised


def of_parameters(
    made: Discretised, powers: Factors, x: Tensor, g: Tensor, states: int, reverse: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of z, c and skip from inputs and states x, and the gradients g of outputs and states."""
    layers = []
    for layer, mirrored in enumerate((False, reverse)):
        dz, dc, dskip = _of_tables_out(made, powers, x, g, states, layer, mirrored)
        if states:
            dz = dz + _of_tables_in(made, powers, x, g, states, layer, mirrored)
        layers.append((dz, dc, dskip))
    dz, dc, dskip = (torch.stack(both) for both in zip(*layers, strict=True))
    return dz, dc, dskip


def _of_tables_out(
    made: Discretised, powers: Factors, x: Tensor, g: Tensor, states: int, layer: int, mirrored: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of z, c and skip by way of the kernel and of what leaves states."""
    chunk, c, wide = x.shape[1] - 2 * states, made.c[layer], powers.fine.dtype.to_real()
    outputs = both_outputs(g, states)[:, layer]
    d_table = product(outputs, with_states(x, layer, states).mT, wide)  # (D, C, N + C) or (D, C, C + N)
    dk = _diagonal_sums(d_table.narrow(2, 0 if layer else states, chunk), mirrored)  # (D, C)
    kernel = weighted_sums_of_kernel(dk, powers.of_layer(layer, descends=False))
    sums, by_position = (one.to(c.dtype) for one in kernel)
    if states:
        a = made.growth[layer] + 1
        d_out = d_table.narrow(2, chunk if layer else 0, states).unflatten(2, (-1, 2))  # of conj(c a^(l + 1))
        out = weighted_sums(torch.view_as_complex(d_out), powers.of_layer(layer, mirrored), mirrored)
        more, more_by_position = (a * one.to(c.dtype) for one in out)
        sums, by_position = sums + more, by_position + more_by_position + more
    return (c * by_position).conj_physical(), sums.conj_physical(), dk[:, 0]


def _of_tables_in(
    made: Discretised, powers: Factors, x: Tensor, g: Tensor, states: int, layer: int, mirrored: bool
) -> Tensor:
    """Return the gradient of z by way of what is added to states, and of the carry."""
    chunk, wide = x.shape[1] - 2 * states, powers.fine.dtype.to_real()
    ds = g.narrow(1, chunk + layer * states, states)
    d_in = product(x.narrow(1, states, chunk), ds.mT, wide).unflatten(2, (-1, 2))  # (D, C, N/2, 2)
    into = powers.of_layer(layer, not mirrored).conjugate()
    by_position = weighted_sums(torch.view_as_complex(d_in), into, not mirrored)[1]
    # The gradient of a^C is the sum of conj(h) ds over chunks: of all products of two states, those of one pair.
    products = product(ds, both_states(x, states)[:, layer].mT, wide)  # (D, N, N)
    same = products.unflatten(1, (-1, 2)).unflatten(3, (-1, 2)).diagonal(dim1=1, dim2=3)  # (D, 2, 2, N/2)
    d_carry = torch.complex(same[:, 0, 0] + same[:, 1, 1], same[:, 1, 0] - same[:, 0, 1])
    return by_position + chunk * (made.z[layer] * chunk).exp().conj_physical() * d_carry


def _diagonal_sums(product: Tensor, upper: bool) -> Tensor:
    """Return the sums over the diagonals i - j = l of a matrix (D, C, C), or j - i = l if `upper`: (D, C)."""
    width, length, _ = product.shape
    padded = product.new_empty(width, length + 1, length)  # one row of zeros more, in which the skewed view is cut off
    padded[:, length if upper else 0] = 0
    if upper:
        torch.triu(product, out=padded[:, :length])
    else:
        torch.tril(product, out=padded[:, 1:])
    # Entry (i, l) of the view is entry (i, i + l) of the product, or (i, i + l - length) if not `upper`.
    skewed = padded.as_strided((width, length, length + 1), (length * (length + 1), length + 1, 1))
    return skewed[..., :length].sum(1) if upper else skewed[..., 1:].sum(1).flip(1)
