"""S4D for short sequences: dense Toeplitz products per channel, with a backward pass of their own.

With K_f, K_b the two kernels, a channel's outputs are x T_f and x T_b, where T_f[j, i] = K_f[i - j] for i >= j and
T_b[j, i] = K_b[j - i] for j >= i (made like T_f when both run left to right). The gradient of T falls on its
diagonals: seen through a skewed view a diagonal is a column, and the gradient of the kernel one sum over rows.

The kernel's powers exp(l z) are made by doubling from double-precision squares: one float32 rounding each.
Work grows with L^2 and memory with D L^2: right up to L = 128, wrong beyond.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from diffussm.ssm.parameters import S4DParameters, discretise

MAX_LENGTH = 128


def convolve(p: S4DParameters, u: Tensor, bidirectional: bool) -> Tensor:
    """y (B, L, 2D) of two S4D layers on u (B, L, D); the second runs right to left if `bidirectional`."""
    z, c = discretise(p)
    return _Toeplitz.apply(u, z, c, p.skip, bidirectional)


class _Toeplitz(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, z: Tensor, c: Tensor, skip: Tensor, bidirectional: bool) -> Tensor:
        batch, length, width = u.shape
        powers = _powers(z, length, u.dtype)  # (2D, L, N)
        weights = torch.view_as_real(c.conj().resolve_conj()).to(u.dtype).flatten(0, 1).flatten(1)  # (2D, N)
        k = torch.bmm(powers, weights[..., None])[..., 0]  # (2D, L)
        k[:, 0] += skip.flatten()

        t = _causal(k)  # (2D, L, L)
        if bidirectional:
            t[width:] = _causal(k[width:]).mT
        x = _channels_first(u)  # (D, B, L)
        y = u.new_empty(2 * width, batch, length)
        torch.bmm(x, t[:width], out=y[:width])
        torch.bmm(x, t[width:], out=y[width:])

        ctx.save_for_backward(x, t, powers, c)
        ctx.bidirectional = bidirectional
        return _channels_last(y)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, None]:
        x, t, powers, c = ctx.saved_tensors
        width, _, length = x.shape
        g = _channels_first(dy)  # (2D, B, L)
        dx = torch.bmm(g[:width], t[:width].mT).baddbmm_(g[width:], t[width:].mT)  # (D, B, L)

        dk = _diagonal_sums(x, g, ctx.bidirectional)  # (2D, L)
        position = torch.arange(length, device=x.device, dtype=x.dtype)
        moments = torch.bmm(torch.stack([dk, dk * position], dim=1), powers)  # (2D, 2, N)
        moments = torch.view_as_complex(moments.unflatten(-1, (-1, 2))).conj().to(c.dtype)
        dc = moments[:, 0].view_as(c)
        dz = moments[:, 1].view_as(c) * c.conj()
        return _channels_last(dx), dz, dc, dk[:, 0].reshape(2, width), None


def _powers(z: Tensor, length: int, dtype: torch.dtype) -> Tensor:
    """exp(l z) for l < L: (2D, L, N), real and imaginary parts side by side."""
    z = z.flatten(0, 1)  # (2D, N/2)
    out = torch.empty(
        z.shape[0], length, z.shape[1], dtype=torch.promote_types(dtype, torch.complex32), device=z.device
    )
    out[:, 0] = 1
    base, done = z.exp(), 1
    while done < length:
        more = min(done, length - done)
        torch.mul(out[:, :more], base.to(out.dtype)[:, None], out=out[:, done : done + more])
        base, done = base * base, 2 * done
    return torch.view_as_real(out).flatten(2)


def _causal(k: Tensor) -> Tensor:
    """T[j, i] = K[i - j] for i >= j, else 0: (D, L) -> (D, L, L)."""
    length = k.shape[-1]
    padded = torch.cat([k.new_zeros(k.shape[0], length - 1), k], dim=-1)
    return padded.unfold(-1, length, 1).flip(-2)


def _diagonal_sums(x: Tensor, g: Tensor, bidirectional: bool) -> Tensor:
    """The kernels' gradient (2D, L): the sums of x^T g over the upper diagonals of T_f and the lower ones of T_b."""
    width, _, length = x.shape
    padded = x.new_empty(2 * width, length + 1, length)  # one more row: the skewed view below ends in it
    product, padded[:, length] = padded[:, :length], 0
    torch.bmm(x.mT, g[:width], out=product[:width])
    if bidirectional:  # T_b is a causal matrix transposed: so is its gradient
        torch.bmm(g[width:].mT, x, out=product[width:])
    else:
        torch.bmm(x.mT, g[width:], out=product[width:])
    product.triu_()
    # Entry (j, s) of the view is entry (j, j + s) of the product; where j + s passes the row's end it meets a zero.
    skewed = padded.as_strided((2 * width, length, length), (length * (length + 1), length + 1, 1))
    return skewed.sum(1)


def _channels_first(u: Tensor) -> Tensor:
    """(B, L, D) -> contiguous (D, B, L), as one matrix transposition."""
    batch, length, width = u.shape
    return u.reshape(batch * length, width).t().contiguous().view(width, batch, length)


def _channels_last(y: Tensor) -> Tensor:
    """(D, B, L) -> contiguous (B, L, D), as one matrix transposition."""
    width, batch, length = y.shape
    return y.view(width, batch * length).t().contiguous().view(batch, length, width)
