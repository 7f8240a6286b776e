"""S4D by FFT: the whole kernel, then a convolution of length 2L (zero-padded: an FFT of length L would wrap round).

The kernel is built from the (2, D, N/2, L) exponentials in the precision of the input, as the original `s4d.py` does.
It works for any length and device, and is the plain baseline that faster backends are compared with. The backward pass
computes what autograd would: the gradient of a real FFT is the real part of a complex one.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from diffussm.ssm.operators import Gradients, Kernels, operator
from diffussm.ssm.parameters import (
    Discretised,
    S4DParameters,
    discretise,
    discretise_backward,
    discretised_empty,
    without_autocast,
)


class _Kept(NamedTuple):
    """What the forward pass makes for the backward pass, and u."""

    u: Tensor  # (B, L, D)
    z: Tensor  # these four as in `Discretised`
    c: Tensor
    a: Tensor
    growth: Tensor
    exponentials: Tensor  # (2, D, N/2, L): exp(l z)
    kernel: Tensor  # (2, D, L + 1): spectra; of the second layer conjugated if it runs right to left
    spectrum: Tensor  # (B, D, L + 1): of u


def convolve(p: S4DParameters, u: Tensor, bidirectional: bool) -> Tensor:
    """Return y (B, L, 2D) of two S4D layers on u (B, L, D); the second runs right to left if `bidirectional`."""
    if torch.jit.is_tracing():  # type: ignore[attr-defined]  # costs are counted from what is inside
        return _forward(p, u, bidirectional)[0]
    return _convolve(p, u, bidirectional)


def kernel(p: S4DParameters, length: int) -> Tensor:
    """Return K_l = Re(sum_n c_n exp(l z_n)): (2, D, L)."""
    return _kernel(p, discretise(p), length)[1]


@without_autocast
def _forward(p: S4DParameters, u: Tensor, bidirectional: bool) -> tuple[Tensor, list[Tensor]]:
    length = u.shape[1]
    discretised = discretise(p)
    exponentials, kernel = _kernel(p, discretised, length)
    k = torch.fft.rfft(kernel.to(u.dtype), n=2 * length)  # (2, D, L + 1)
    if bidirectional:
        k = torch.stack([k[0], k[1].conj_physical()])  # the conjugate turns convolution into correlation: right to left
    spectrum = torch.fft.rfft(u.transpose(1, 2), n=2 * length)  # (B, D, L + 1)
    y = torch.fft.irfft(spectrum[:, None] * k, n=2 * length)[..., :length]  # (B, 2, D, L)
    y = y + p.skip[..., None] * u.transpose(1, 2)[:, None]
    return y.flatten(1, 2).transpose(1, 2), [*discretised, exponentials, k, spectrum]  # (B, L, 2D)


def _empty(p: S4DParameters, u: Tensor, _: bool) -> tuple[Tensor, list[Tensor]]:
    batch, length, width = u.shape
    shapes = ((*p.log_decay.shape, length), (2, width, length + 1), (batch, width, length + 1))
    made = [u.new_empty(shape, dtype=u.dtype.to_complex()) for shape in shapes]
    return u.new_empty(batch, 2 * width, length).transpose(1, 2), [*discretised_empty(p), *made]


@without_autocast
def _backward(p: S4DParameters, kept: list[Tensor], dy: Tensor, bidirectional: bool) -> Gradients:
    u, *discretised, exponentials, k, spectrum = _Kept(*kept)
    width, length = u.shape[2], u.shape[1]
    g, x = dy.transpose(1, 2).unflatten(1, (2, width)), u.transpose(1, 2)[:, None]  # (B, 2, D, L), (B, 1, D, L)
    d_product = torch.fft.rfft(g, n=2 * length, norm="forward")  # (B, 2, D, L + 1)
    d_product[..., 1:length] *= 2  # each of these stands for its conjugate in the other half too
    dx = _rfft_backward((d_product * k.conj_physical()).sum(1), length) + (g * p.skip[..., None]).sum(1)
    dk = (d_product * spectrum[:, None].conj_physical()).sum(0)
    if bidirectional:
        dk = torch.stack([dk[0], dk[1].conj_physical()])
    dz, dc = _kernel_backward(discretised[1], exponentials, _rfft_backward(dk, length))
    dskip = (g * x).sum((0, 3))
    return dx.transpose(1, 2).contiguous(), *discretise_backward(p, Discretised(*discretised), dz, dc), dskip


_convolve = operator("fft", Kernels(_forward, _backward, _empty, needs_input=True))


def _kernel(p: S4DParameters, discretised: Discretised, length: int) -> tuple[Tensor, Tensor]:
    """Return the exponentials exp(l z) (2, D, N/2, L) and the kernel (2, D, L)."""
    z, c = (one.to(p.log_dt.dtype.to_complex()) for one in (discretised.z, discretised.c))
    exponentials = (z[..., None] * torch.arange(length, device=z.device)).exp()
    return exponentials, torch.einsum("kdn,kdnl->kdl", c, exponentials).real


def _kernel_backward(c: Tensor, exponentials: Tensor, d_kernel: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of z and c."""
    position = torch.arange(exponentials.shape[-1], device=c.device)
    dk = torch.complex(d_kernel, torch.zeros_like(d_kernel))[:, :, None]  # (2, D, 1, L)
    dc = (dk @ exponentials.mT)[:, :, 0]
    dz = (c.to(dk.dtype)[..., None] * dk).mul_(exponentials).mul_(position).sum(-1)
    return dz.to(c.dtype).conj_physical(), dc.to(c.dtype).conj_physical()


def _rfft_backward(d_spectrum: Tensor, length: int) -> Tensor:
    """Return the gradient of x (..., L) from that of `rfft(x, n=2 * L)`."""
    return torch.fft.ifft(d_spectrum, n=2 * length, norm="forward").real[..., :length]
