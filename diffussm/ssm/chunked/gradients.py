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
    sums, by_position, dskip = _out_of_tables(made, powers, x, g, states, reverse)
    dz, dc = (made.c * by_position).conj_physical(), sums.conj_physical()
    return dz + _into_states(made, powers, x, g, states, reverse) if states else dz, dc, dskip


def _out_of_tables(
    made: Discretised, powers: Factors, x: Tensor, g: Tensor, states: int, reverse: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the conjugates of sum_l G_l conj(a^l) and of sum_l l G_l conj(a^l), and the gradient of skip."""
    c, outputs = made.c, both_outputs(g, states)
    width, _, chunk, _ = outputs.shape
    d_tables = g.new_empty(2, width, chunk, states + chunk, dtype=powers.fine.dtype.to_real())  # [W | T], [T | W]
    for layer in (0, 1):
        product(outputs[:, layer], with_states(x, layer, states).mT, d_tables.dtype, out=d_tables[layer])
    first, second = d_tables[0, :, :, states:], d_tables[1, :, :, :chunk]
    dk = torch.stack([_diagonal_sums(first, upper=False), _diagonal_sums(second, upper=reverse)])  # (2, D, C)
    sums, by_position = (one.to(c.dtype) for one in weighted_sums_of_kernel(dk, powers))
    if states:
        a = made.growth + 1
        windows = (d_tables.stride(0) + chunk, *d_tables.stride()[1:])
        d_out = _complex(d_tables.as_strided((2, width, chunk, states), windows))  # of conj(c a^(l + 1))
        of_states, more = (a * one.to(c.dtype) for one in weighted_sums(d_out, powers, False, reverse))
        sums, by_position = sums + of_states, by_position + more + of_states
    return sums, by_position, dk[..., 0].contiguous()


def _into_states(made: Discretised, powers: Factors, x: Tensor, g: Tensor, states: int, reverse: bool) -> Tensor:
    """Return the gradient of z by way of what is added to states, and of the carry."""
    chunk, wide = x.shape[1] - 2 * states, powers.fine.dtype.to_real()
    ds = g.narrow(1, chunk, 2 * states)
    d_in = product(x.narrow(1, states, chunk), ds.mT, wide).unflatten(2, (2, states))  # (D, C, 2, N)
    by_layer = _complex(d_in).permute(2, 0, 1, 3)
    by_position = weighted_sums(by_layer, powers.conjugate(), True, not reverse)[1]
    # The gradient of a^C is the sum of conj(h) ds over chunks: of all products of two states, those of one pair.
    products, entering = d_in.new_empty(2, x.shape[0], states, states), both_states(x, states)
    for layer in (0, 1):
        product(ds.narrow(1, layer * states, states), entering[:, layer].mT, wide, out=products[layer])
    same = products.unflatten(2, (-1, 2)).unflatten(4, (-1, 2)).diagonal(dim1=2, dim2=4)  # (2, D, 2, 2, N/2)
    d_carry = torch.complex(same[:, :, 0, 0] + same[:, :, 1, 1], same[:, :, 1, 0] - same[:, :, 0, 1])
    return by_position + chunk * (made.z * chunk).exp().conj_physical() * d_carry


def _complex(x: Tensor) -> Tensor:
    """Return (..., N) real as (..., N/2) complex, a view."""
    return torch.view_as_complex(x.unflatten(-1, (-1, 2)))


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
