"""S4D computed plainly in the precision of its input, autograd included: the baseline whose error bounds
that of the fast backends.

Each backend has the plain computation of what it makes fast. The FFT takes the kernel that the original `s4d.py` makes,
exponentials of l z in single precision, and may not lose more than the direct convolution with that kernel. The chunked
and the compiled backend round each power of a once and are held to what rounds less: the recurrence, with a and c
rounded once. Both discretise in double precision, by code of their own.
"""

import torch
from torch import Tensor

from diffussm.ssm.parameters import S4DParameters


def convolution(p: S4DParameters, u: Tensor, bidirectional: bool) -> Tensor:
    """y (B, L, 2D): the kernel from exponentials in the input's precision, then one product with its L x L matrix."""
    z, c = _zero_order_hold(p)
    z, c, length = z.to(_complex(u)), c.to(_complex(u)), u.shape[1]
    kernel = (c[..., None] * (z[..., None] * torch.arange(length)).exp()).sum(2).real  # (2, D, L)
    rows = torch.nn.functional.pad(kernel, (length - 1, 0)).unfold(-1, length, 1)  # (2, D, L, L)
    matrix = rows.flip(-2)  # [j, i] is K[i - j], 0 for i < j
    second = matrix[1].mT if bidirectional else matrix[1]
    y = [torch.einsum("bjd,dji->bid", u, one) for one in (matrix[0], second)]
    return torch.cat([y[0] + p.skip[0] * u, y[1] + p.skip[1] * u], dim=-1)


def recurrence(p: S4DParameters, u: Tensor, bidirectional: bool) -> Tensor:
    """y (B, L, 2D): h_l = a h_(l-1) + u_l and y_l = Re(c h_l) + skip u_l, one position after the other."""
    z, c = _zero_order_hold(p)
    a, c = z.exp().to(_complex(u)), c.to(_complex(u))
    outputs = []
    for layer, backwards in enumerate((False, bidirectional)):
        v = u.flip(1) if backwards else u
        h, y = torch.zeros_like(a[layer]), []
        for position in v.unbind(1):
            h = a[layer] * h + position[..., None]  # (B, D, N/2)
            y.append((c[layer] * h).sum(-1).real)
        one = torch.stack(y, dim=1) + p.skip[layer] * v
        outputs.append(one.flip(1) if backwards else one)
    return torch.cat(outputs, dim=-1)


def _zero_order_hold(p: S4DParameters) -> tuple[Tensor, Tensor]:
    """z = dt A and c = 2 C (exp(z) - 1)/A: (2, D, N/2) complex128."""
    a = torch.complex(-p.log_decay.double().exp(), p.frequency.double())
    z = p.log_dt.double().exp()[..., None] * a
    return z, 2 * torch.view_as_complex(p.c.double()) * (z.exp() - 1) / a


def _complex(u: Tensor) -> torch.dtype:
    return torch.promote_types(u.dtype, torch.complex32)


TRUSTED = {"fft": convolution, "chunked": recurrence, "compiled": recurrence}
