"""S4D by FFT: the whole kernel, then a convolution of length 2L (zero-padded: an FFT of length L would wrap round).

The kernel is built from the (2, D, N/2, L) exponentials in the precision of the input, as the original `s4d.py` does.
It works for any length and device, and is the plain baseline that faster backends are compared with.
"""

import torch
from torch import Tensor

from diffussm.ssm.parameters import S4DParameters, discretise


def convolve(p: S4DParameters, u: Tensor, bidirectional: bool) -> Tensor:
    """Return y (B, L, 2D) of two S4D layers on u (B, L, D); the second runs right to left if `bidirectional`."""
    length = u.shape[1]
    k = torch.fft.rfft(kernel(p, length).to(u.dtype), n=2 * length)  # (2, D, L + 1)
    if bidirectional:
        k = torch.stack([k[0], k[1].conj()])  # the conjugate turns convolution into correlation: right to left
    spectrum = torch.fft.rfft(u.transpose(1, 2), n=2 * length)  # (B, D, L + 1)
    y = torch.fft.irfft(spectrum[:, None] * k, n=2 * length)[..., :length]  # (B, 2, D, L)
    y = y + p.skip[..., None] * u.transpose(1, 2)[:, None]
    return y.flatten(1, 2).transpose(1, 2)  # (B, L, 2D)


def kernel(p: S4DParameters, length: int) -> Tensor:
    """Return K_l = Re(sum_n c_n exp(l z_n)): (2, D, L)."""
    z, c = discretise(p)
    if p.log_dt.dtype != torch.float64:
        z, c = z.to(torch.complex64), c.to(torch.complex64)
    position = torch.arange(length, device=z.device)
    return torch.einsum("kdn,kdnl->kdl", c, (z[..., None] * position).exp()).real
