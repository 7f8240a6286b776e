"""The real-valued parameters of an S4D layer and their discretisation, from which every backend starts.

x' = A x + u, y = 2 Re(C x) + skip u with A diagonal and stored as conjugate pairs (Gu et al. 2022, arXiv 2206.11893;
B is folded into C), discretised by zero-order hold with the step dt: x_l = exp(dt A) x_(l-1) + (exp(dt A) - 1)/A u_l.
The convolution kernel is K_l = Re(sum_n c_n exp(l z_n)), z = dt A, c = 2 C (exp(z) - 1)/A.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor


class S4DParameters(NamedTuple):
    """Parameters of two S4D layers of D channels with N/2 conjugate pairs each, all real-valued."""

    log_dt: Tensor  # (2, D)
    log_decay: Tensor  # (2, D, N/2): A = -exp(log_decay) + i frequency
    frequency: Tensor  # (2, D, N/2)
    c: Tensor  # (2, D, N/2, 2): real and imaginary part
    skip: Tensor  # (2, D)


def without_autocast(device: str) -> AbstractContextManager[Any]:
    """Return a context in which torch computes in the precision of its tensors: bfloat16 is too coarse for
    exponents."""
    known = torch.amp.is_autocast_available(device)  # false for meta tensors, with which costs are counted
    return torch.autocast(device, enabled=False) if known else nullcontext()


def discretise(p: S4DParameters) -> tuple[Tensor, Tensor]:
    """Return exponents z = dt A and kernel weights c of the zero-order hold, both (2, D, N/2) complex128.

    They are computed in double precision, because an error in z is multiplied by the position l.
    """
    a = torch.complex(-p.log_decay.double().exp(), p.frequency.double())
    z = p.log_dt.double().exp()[..., None] * a
    c = 2 * torch.view_as_complex(p.c.double()) * torch.expm1(z) / a
    return z, c
