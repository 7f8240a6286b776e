"""S4D in plain PyTorch at any length: a dense product inside a chunk, a carried state across chunks.

Per channel and layer, K_l = Re(sum_n c_n a_n^l) with a = exp(z), and a sequence cut into chunks of C positions:

    y_k = u_k T + Re(h_k W),    T[j, i] = K[i - j] for i >= j,    W[n, i] = c_n a_n^(i + 1)
    h_(k+1) = a^C h_k + s_k,    s_k = u_k V,                      V[j, n] = a_n^(C - 1 - j)

for a layer that runs left to right. One that runs right to left is its mirror image: T transposed, the rows of V and
the columns of W in reverse order, the state carried from the right. A sequence of at most `choice.ONE_CHUNK` positions
is one chunk, a Toeplitz product and nothing else. Work is linear in L, and apart from the tables of 2 D C (C + N)
numbers no tensor is larger than input and output.

The backward pass is explicit. The gradient of the kernel is the sum over each diagonal of that of T: in a skewed view a
diagonal is a column, and the gradient of the kernel one sum over rows. With E_l the gradient of c a^l (in K and W) and
F_l that of a^l (in V and in the carry), dc = sum_l E_l conj(a^l) and dz = sum_l l (conj(c) E_l + F_l) conj(a^l).

Powers of a are computed by doubling from double-precision squares, with one float32 rounding each. Complex tables are
stored as real ones, real and imaginary parts side by side, so that products with real sequences are real. Channels are
processed in blocks, so that the result of one product is still in the cache for the next one.
"""

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from diffussm.ssm.backends import chunk_length
from diffussm.ssm.operators import Gradients, Kernels, operator
from diffussm.ssm.parameters import (
    Discretised,
    S4DParameters,
    discretise,
    discretise_backward,
    discretised_empty,
    without_autocast,
)

BLOCK = 96  # channels that are processed together


class _Layer(NamedTuple):
    """What the forward pass keeps of a block of d channels of one layer; in the order of `_fields`."""

    powers: Tensor  # (d, C + 1, N): a^l
    toeplitz: Tensor  # (d, C, C): T of a layer that runs left to right
    outward: Tensor | None = None  # (d, C, N): conj(W) transposed, so that Re(h W) is a real product
    state: Tensor | None = None  # (d, B n, N): h; this and `outward` are None for a sequence of one chunk
    flipped: Tensor | None = None  # (d, C, N): V of a layer that runs left to right

    def inward(self) -> Tensor:
        """Return V (d, C, N)."""
        return self.powers[:, :-1] if self.flipped is None else self.flipped


@without_autocast
def forward(p: S4DParameters, u: Tensor, bidirectional: bool) -> tuple[Tensor, list[Tensor]]:
    """Return y (B, L, 2D); and, for the backward pass, discretisation, u as (D, B n, C), the tensors of each layer of
    each block."""
    discretised = discretise(p)
    z, c = discretised.z, discretised.c
    batch, length, width = u.shape
    chunk, padded = _padded(length)
    if padded > length:  # zeros at the end feed no state that any kept output sees
        u = torch.nn.functional.pad(u, (0, 0, 0, padded - length))
    x = _channels_first(u).view(width, -1, chunk)  # (D, B n, C)
    y = x.new_empty(2, *x.shape)
    kept = [*discretised, x]
    for d in _blocks(width):
        for layer, reverse in enumerate((False, bidirectional)):
            made = _tables(z[layer, d], c[layer, d], p.skip[layer, d], chunk, reverse, chunk < padded)
            torch.bmm(x[d], _transposed(made.toeplitz, reverse), out=y[layer, d])
            if made.outward is not None:
                state = _carry(torch.bmm(x[d], made.inward()), made.powers[:, chunk], batch, reverse)
                y[layer, d].baddbmm_(state, made.outward.mT)
                made = made._replace(state=state)
            kept += [tensor for tensor in made if tensor is not None]
    return _channels_last(y.view(2 * width, -1), batch)[:, :length], kept


def empty(p: S4DParameters, u: Tensor, bidirectional: bool) -> tuple[Tensor, list[Tensor]]:
    """Return what `forward` returns, without values."""
    batch, length, width = u.shape
    chunk, padded = _padded(length)
    rows, state = batch * (padded // chunk), 2 * p.log_decay.shape[2]
    kept = [*discretised_empty(p), u.new_empty(width, rows, chunk)]
    for d in _blocks(width):
        channels = d.stop - d.start
        for reverse in (False, bidirectional):
            shapes = {"powers": (chunk + 1, state), "toeplitz": (chunk, chunk)}
            if chunk < padded:
                shapes |= {"outward": (chunk, state), "state": (rows, state)}
                shapes |= {} if reverse else {"flipped": (chunk, state)}
            kept += [u.new_empty(channels, *shape) for shape in shapes.values()]
    return u.new_empty(batch, padded, 2 * width)[:, :length], kept


@without_autocast
def backward(p: S4DParameters, kept: list[Tensor], dy: Tensor, bidirectional: bool) -> Gradients:
    """Return the gradients with respect to u and each parameter."""
    discretised, (x, *tables) = Discretised(*kept[:4]), kept[4:]
    c = discretised.c
    batch, length, _ = dy.shape
    width, rows, chunk = x.shape
    if padding := rows * chunk // batch - length:
        dy = torch.nn.functional.pad(dy, (0, 0, 0, padding))
    g = _channels_first(dy).view(2, *x.shape)  # (2, D, B n, C)
    dx, dz, dc, dskip = torch.empty_like(x), torch.empty_like(c), torch.empty_like(c), x.new_empty(2, width)
    for d in _blocks(width):
        for layer, reverse in enumerate((False, bidirectional)):
            made, gd = _next_layer(tables, reverse, carried=rows > batch), g[layer, d]
            toeplitz = _transposed(made.toeplitz, reverse).mT
            if layer == 0:
                torch.bmm(gd, toeplitz, out=dx[d])
            else:
                dx[d].baddbmm_(gd, toeplitz)
            dk = _diagonal_sums(x[d], gd, reverse)  # (d, C)
            gradients = _kernel_backward(dk, made.powers)
            if made.outward is not None and made.state is not None:
                carry = made.powers[:, chunk]
                ds = _carry(torch.bmm(gd, made.outward), carry, batch, not reverse, adjoint=True)
                dx[d].baddbmm_(ds, made.inward().mT)
                dw = _conjugate_(_ordered(torch.bmm(gd.mT, made.state), reverse))
                dv = _ordered(torch.bmm(x[d].mT, ds), not reverse)
                dcarry = (_complex(made.state).conj_physical() * _complex(ds)).sum(1)
                gradients += _state_backward(dw, dv, dcarry, made.powers)
            block_dc, moment, direct_dz = gradients.to(c.dtype).unbind(1)
            dskip[layer, d], dc[layer, d] = dk[:, 0], block_dc
            dz[layer, d] = moment * c[layer, d].conj_physical() + direct_dz
    du = _channels_last(dx.view(width, -1), batch)[:, :length].contiguous()
    return du, *discretise_backward(p, discretised, dz, dc), dskip


convolve = operator("chunked", Kernels(forward, backward, empty, needs_input=False))


def _padded(length: int) -> tuple[int, int]:
    """Return the length of a chunk, and that of the sequence when its last chunk is full."""
    chunk = chunk_length(length)
    return chunk, length + -length % chunk


def _blocks(width: int) -> list[slice]:
    return [slice(start, min(start + BLOCK, width)) for start in range(0, width, BLOCK)]


def _next_layer(tables: list[Tensor], reverse: bool, carried: bool) -> _Layer:
    """Take the tensors of one layer from the front of `tables`."""
    count = 2 if not carried else 4 if reverse else 5
    made = _Layer(*tables[:count])
    del tables[:count]
    return made


def _tables(z: Tensor, c: Tensor, skip: Tensor, chunk: int, reverse: bool, carried: bool) -> _Layer:
    powers = _powers(z, chunk + 1, skip.dtype)  # (d, C + 1, N)
    weights = _interleaved(c.conj_physical()).to(skip.dtype)  # (d, N)
    kernel = torch.bmm(powers[:, :chunk], weights[..., None])[..., 0]  # (d, C)
    kernel[:, 0] += skip
    toeplitz = _causal(kernel)
    if not carried:
        return _Layer(powers, toeplitz)
    outward = _conjugate_(_interleaved(_complex(powers[:, 1:]) * c.to(_complex(powers).dtype)[:, None]))
    flipped = None if reverse else powers[:, :chunk].flip(1)
    return _Layer(powers, toeplitz, _ordered(outward, reverse), flipped=flipped)


def _transposed(toeplitz: Tensor, reverse: bool) -> Tensor:
    return toeplitz.mT if reverse else toeplitz


def _ordered(table: Tensor, reverse: bool) -> Tensor:
    """Return the rows of (d, C, N), in reverse order if `reverse`."""
    return table.flip(1) if reverse else table


def _carry(s: Tensor, a: Tensor, batch: int, reverse: bool, adjoint: bool = False) -> Tensor:
    """Return h (d, B n, N) with h_0 = 0, h_(k+1) = a h_k + s_k over the n chunks of each sequence, from the right if
    `reverse`; a (d, N) is conjugated if `adjoint`."""
    s_k = _complex(s.unflatten(1, (batch, -1))).unbind(2)  # n of (d, B, N/2)
    h = torch.empty_like(s)
    h_k = _complex(h.unflatten(1, (batch, -1))).unbind(2)
    factor = _complex(a).conj_physical() if adjoint else _complex(a)
    factor = factor[:, None]
    order = range(len(s_k))[:: -1 if reverse else 1]
    h_k[order[0]].zero_()
    for before, after in pairwise(order):
        torch.addcmul(s_k[before], factor, h_k[before], out=h_k[after])
    return h


def _kernel_backward(dk: Tensor, powers: Tensor) -> Tensor:
    """Return (d, 3, N/2) from the gradient (d, C) of K_l = Re(c a^l): that of c, that of z without its factor conj(c),
    and 0."""
    position = torch.arange(dk.shape[1], device=dk.device, dtype=dk.dtype)
    rows = torch.stack([dk, dk * position, torch.zeros_like(dk)], dim=1)  # (d, 3, C)
    return _complex(torch.bmm(rows, powers[:, : dk.shape[1]])).conj_physical()


def _state_backward(dw: Tensor, dv: Tensor, dcarry: Tensor, powers: Tensor) -> Tensor:
    """Return (d, 3, N/2) from the gradients of c a^l for l = 1 .. C and of a^l for l < C, both (d, C, N), and of a^C
    (d, N/2): that of c, that of z without its factor conj(c), and the part of z's gradient that has no such factor."""
    chunk = dw.shape[1]
    position = torch.arange(chunk + 1, device=dw.device, dtype=dw.dtype)
    conjugate = _complex(powers).conj_physical()
    e = _interleaved(_complex(dw) * conjugate[:, 1:])
    f = _interleaved(_complex(dv) * conjugate[:, :chunk])
    sums = torch.stack([torch.ones_like(position), position])[:, 1:] @ e  # (d, 2, N)
    direct_dz = _complex(position[:chunk] @ f) + chunk * conjugate[:, chunk] * dcarry
    return torch.cat([_complex(sums), direct_dz[:, None]], dim=1)


def _powers(z: Tensor, count: int, dtype: torch.dtype) -> Tensor:
    """Return exp(l z) for l < count: (d, count, N)."""
    complex_dtype = torch.promote_types(dtype, torch.complex32)
    out = torch.empty(z.shape[0], count, z.shape[1], dtype=complex_dtype, device=z.device)
    out[:, 0] = 1
    base, done = z.exp(), 1
    while done < count:
        more = min(done, count - done)
        torch.mul(out[:, :more], base.to(complex_dtype)[:, None], out=out[:, done : done + more])
        base, done = base * base, 2 * done
    return _interleaved(out)


def _causal(kernel: Tensor) -> Tensor:
    """Return T[j, i] = K[i - j] for i >= j, else 0: (d, C) -> (d, C, C)."""
    length = kernel.shape[-1]
    padded = torch.cat([kernel.new_zeros(kernel.shape[0], length - 1), kernel], dim=-1)
    return padded.unfold(-1, length, 1).flip(-2)


def _diagonal_sums(x: Tensor, g: Tensor, reverse: bool) -> Tensor:
    """Return the kernel's gradient (d, C), the sums of x^T g over the diagonals of T."""
    width, _, length = x.shape
    padded = x.new_empty(width, length + 1, length)  # one row more, in which the skewed view below ends
    product, padded[:, length] = padded[:, :length], 0
    torch.bmm(g.mT, x, out=product) if reverse else torch.bmm(x.mT, g, out=product)
    product.triu_()
    # Entry (j, s) of the view is entry (j, j + s) of the product; where j + s is beyond the row's end it reads a zero.
    skewed = padded.as_strided((width, length, length), (length * (length + 1), length + 1, 1))
    return skewed.sum(1)


def _complex(x: Tensor) -> Tensor:
    """Return (..., N) real as (..., N/2) complex, a view."""
    return torch.view_as_complex(x.unflatten(-1, (-1, 2)))


def _interleaved(x: Tensor) -> Tensor:
    """Return (..., N/2) complex as (..., N) real, a view."""
    return torch.view_as_real(x).flatten(-2)


def _conjugate_(x: Tensor) -> Tensor:
    x.unflatten(-1, (-1, 2))[..., 1].neg_()
    return x


def _channels_first(u: Tensor) -> Tensor:
    """Transpose (B, L, D) to contiguous (D, B L), as one matrix; always a copy."""
    return u.reshape(-1, u.shape[-1]).t().clone(memory_format=torch.contiguous_format)


def _channels_last(y: Tensor, batch: int) -> Tensor:
    """Transpose (D, B L) to contiguous (B, L, D), as one matrix."""
    return y.t().contiguous().view(batch, -1, y.shape[0])
