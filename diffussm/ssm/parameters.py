"""The real-valued parameters of an S4D layer and their discretisation, from which every backend starts.

x' = A x + u, y = 2 Re(C x) + skip u with A diagonal and stored as conjugate pairs (Gu et al. 2022, arXiv 2206.11893;
B is folded into C), discretised by zero-order hold with the step dt: x_l = exp(dt A) x_(l-1) + (exp(dt A) - 1)/A u_l.
The convolution kernel is K_l = Re(sum_n c_n exp(l z_n)), z = dt A, c = 2 C (exp(z) - 1)/A.
"""

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, NamedTuple, ParamSpec, TypeVar

import torch
from torch import Tensor

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class S4DParameters(NamedTuple):
    """Parameters of two S4D layers of D channels with N/2 conjugate pairs each, all real-valued."""

    log_dt: Tensor  # (2, D)
    log_decay: Tensor  # (2, D, N/2): A = -exp(log_decay) + i frequency
    frequency: Tensor  # (2, D, N/2)
    c: Tensor  # (2, D, N/2, 2): real and imaginary part
    skip: Tensor  # (2, D)


def without_autocast(
    kernel: Callable[Concatenate[S4DParameters, Arguments], Result],
) -> Callable[Concatenate[S4DParameters, Arguments], Result]:
    """Let the function compute in the precision of its tensors where autocast is active, as it may be in a backward
    pass too: bfloat16 is too coarse for exponents."""

    @wraps(kernel)
    def run(p: S4DParameters, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        device = p.skip.device.type
        if not torch.amp.is_autocast_available(device):  # meta, with which costs are counted
            return kernel(p, *args, **kwargs)
        with torch.autocast(device, enabled=False):
            return kernel(p, *args, **kwargs)

    return run


def discretise(p: S4DParameters) -> tuple[Tensor, Tensor]:
    """Return exponents z = dt A and kernel weights c of the zero-order hold, both (2, D, N/2) complex128.

    They are computed in double precision, because an error in z is multiplied by the position l.
    """
    a = torch.complex(-p.log_decay.double().exp(), p.frequency.double())
    z = p.log_dt.double().exp()[..., None] * a
    c = 2 * torch.view_as_complex(p.c.double()) * torch.expm1(z) / a
    return z, c


def discretise_backward(p: S4DParameters, dz: Tensor, dc: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients with respect to log_dt, log_decay, frequency and c from those of z and c of `discretise`."""
    decay, dt = p.log_decay.double().exp(), p.log_dt.double().exp()[..., None]
    a, weight = torch.complex(-decay, p.frequency.double()), 2 * torch.view_as_complex(p.c.double())
    growth = torch.expm1(dt * a)
    numerator = weight * growth
    d_numerator = dc / a.conj()
    dz = dz + d_numerator * weight.conj() * (growth.conj() + 1)
    da = dz * dt - dc * (numerator / a / a).conj()
    d_log_dt = (dz * a.conj()).real.sum(-1, keepdim=True) * dt
    d_weight = torch.view_as_real(2 * d_numerator * growth.conj())
    dtype = p.log_dt.dtype
    return d_log_dt[..., 0].to(dtype), (-da.real * decay).to(dtype), da.imag.to(dtype), d_weight.to(dtype)
