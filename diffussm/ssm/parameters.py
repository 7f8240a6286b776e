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


class Discretised(NamedTuple):
    """The zero-order hold of two layers, all (2, D, N/2) complex128."""

    z: Tensor  # dt A
    c: Tensor  # 2 C (exp(z) - 1)/A
    a: Tensor  # A
    growth: Tensor  # exp(z) - 1


def discretise(p: S4DParameters) -> Discretised:
    """Return exponents z = dt A and kernel weights c of the zero-order hold, and what their gradients need.

    They are computed in double precision, because an error in z is multiplied by the position l.
    """
    a = torch.complex(-p.log_decay.double().exp(), p.frequency.double())
    z = p.log_dt.double().exp()[..., None] * a
    growth = torch.expm1(z)
    return Discretised(z, 2 * torch.view_as_complex(p.c.double()) * growth / a, a, growth)


def discretised_empty(p: S4DParameters) -> Discretised:
    """Return what `discretise` returns, without values."""
    return Discretised(*(p.log_decay.new_empty(p.log_decay.shape, dtype=torch.complex128) for _ in range(4)))


def discretise_backward(
    p: S4DParameters, made: Discretised, dz: Tensor, dc: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients with respect to log_dt, log_decay, frequency and c from those of z and c."""
    _, c, a, growth = made
    dt, conjugate = p.log_dt.double().exp(), a.conj_physical()
    d_numerator = dc / conjugate
    weight, slope = 2 * torch.view_as_complex(p.c.double()), growth + 1
    dz = dz + d_numerator * (weight * slope).conj_physical()
    da = dz * dt[..., None] - dc * (c / a).conj_physical()
    d_log_dt = (dz * conjugate).real.sum(-1) * dt
    gradients = d_log_dt, da.real * a.real, da.imag, torch.view_as_real(2 * d_numerator * growth.conj_physical())
    log_dt, log_decay, frequency, d_c = (gradient.to(p.log_dt.dtype) for gradient in gradients)
    return log_dt, log_decay, frequency, d_c
