"""The S4D layer: two diagonal state-space layers over a sequence."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from diffussm.ssm import fft, reference
from diffussm.ssm.backends import PORTABLE
from diffussm.ssm.chunked import portable
from diffussm.ssm.compiled import convolution
from diffussm.ssm.parameters import S4DParameters
from diffussm.ssm.selection import select

BACKENDS: dict[str, Callable[[S4DParameters, Tensor, bool], Tensor]] = {
    "reference": reference.convolve,
    "fft": fft.convolve,
    "chunked": portable.convolve,
    "compiled": convolution.convolve,
}


class S4D(nn.Module):
    """Two S4D layers side by side, outputs concatenated: u (B, L, D) -> y (B, L, 2D), in the parameters' precision.

    It computes in that precision, or in float32 if that is lower. Under autocast to bfloat16 the portable backend takes
    and returns bfloat16 on GPUs, with states in float32.

    With `bidirectional` the second layer runs right to left, and both see the present position; otherwise both run left
    to right. `state` is N, the real dimension: N/2 conjugate pairs are stored. Initial values follow the original
    `s4d.py` (Gu et al. 2022): log dt uniform over [log 1e-3, log 1e-1], C complex normal, skip normal, and A by `init`:

        lin   A_n = -1/2 + i pi n
        inv   A_n = -1/2 + i (N/pi) (N/(2n + 1) - 1)
        real  A_n = -(n + 1)
    """

    DT_MIN, DT_MAX = 1e-3, 1e-1

    def __init__(self, width: int, state: int, bidirectional: bool, backend: str, init: str = "lin"):
        super().__init__()
        pairs = state // 2
        self.state, self.bidirectional, self.backend, self.init = state, bidirectional, backend, init
        self.log_dt = nn.Parameter(torch.empty(2, width))
        self.log_decay = nn.Parameter(torch.empty(2, width, pairs))
        self.frequency = nn.Parameter(torch.empty(2, width, pairs))
        self.c = nn.Parameter(torch.empty(2, width, pairs, 2))
        self.skip = nn.Parameter(torch.empty(2, width))

    def initial_values(self, name: str, uniform: Tensor, normal: Tensor) -> Tensor:
        """Return the initial value of parameter `name` from draws of its shape, uniform on [0, 1) and standard
        normal."""
        low, high = math.log(self.DT_MIN), math.log(self.DT_MAX)
        match name:
            case "log_dt":
                return low + (high - low) * uniform
            case "log_decay":
                return self._decay().log().expand_as(self.log_decay)
            case "frequency":
                return self._frequency().expand_as(self.frequency)
            case "c":
                return normal * math.sqrt(0.5)
            case "skip":
                return normal
        raise ValueError(f"S4D has no parameter {name!r}")

    def _decay(self) -> Tensor:
        n = torch.arange(self.state // 2)
        return n + 1.0 if self.init == "real" else torch.full(n.shape, 0.5)

    def _frequency(self) -> Tensor:
        n = torch.arange(self.state // 2)
        match self.init:
            case "lin":
                return math.pi * n
            case "inv":
                return self.state / math.pi * (self.state / (2 * n + 1) - 1)
            case "real":
                return torch.zeros(n.shape)
        raise ValueError(f"unknown S4D initialisation {self.init!r}")

    def ssm_parameters(self) -> list[str]:
        """Return the names of the parameters that are trained at their own learning rate and without weight decay:
        all."""
        return [name for name, _ in self.named_parameters()]

    def forward(self, u: Tensor) -> Tensor:
        if not torch.jit.is_tracing() and (u.dim() != 3 or 0 in u.shape):  # type: ignore[attr-defined]
            raise ValueError(f"u has shape {tuple(u.shape)}, expected (B, L, D) with no dimension of size 0")
        dtype = self.skip.dtype
        compute_dtype = torch.promote_types(dtype, torch.float32)  # half precision is too coarse for exponents
        p = S4DParameters(self.log_dt, self.log_decay, self.frequency, self.c, self.skip)
        if dtype != compute_dtype:
            p = S4DParameters(*(parameter.to(compute_dtype) for parameter in p))
        backend = self._backend(u)
        taken = portable.input_dtype(u.device.type, compute_dtype) if backend == PORTABLE else compute_dtype
        y = BACKENDS[backend](p, u.to(taken), self.bidirectional)
        return y.to(dtype) if taken == compute_dtype else y

    def _backend(self, u: Tensor) -> str:
        """Return the backend for this input: only plain torch computes on other devices and in other precisions."""
        if u.device.type != "cpu" or not convolution.computable(self.skip):
            return PORTABLE if self.backend in ("auto", "compiled") else self.backend
        return _select(self.backend, u.device.type, int(u.shape[2]), int(u.shape[1]))


def _select(requested: str, device: str, width: int, length: int) -> str:
    return select(requested, device, width, length)


# As torch.compiler.assume_constant_result marks it, which would import the compiler.
_select._dynamo_marked_constant = True  # type: ignore[attr-defined]
