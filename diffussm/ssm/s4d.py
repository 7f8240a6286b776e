"""The S4D layer: two diagonal state-space layers over a sequence, and the choice of the backend that computes them."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from diffussm.ssm import fft, reference, toeplitz
from diffussm.ssm.parameters import S4DParameters

BACKENDS: dict[str, Callable[[S4DParameters, Tensor, bool], Tensor]] = {
    "reference": reference.recurrence,
    "fft": fft.convolve,
    "toeplitz": toeplitz.convolve,
}


def choose_backend(requested: str, length: int) -> str:
    """The name of the backend that computes a sequence of `length`: `auto` takes the fastest known."""
    if requested != "auto":
        return requested
    return "toeplitz" if length <= toeplitz.MAX_LENGTH else "fft"


class S4D(nn.Module):
    """Two S4D layers side by side, outputs concatenated: u (B, L, D) -> y (B, L, 2D).

    `bidirectional`: the second layer runs right to left, and both see the present position; else both run left to
    right. Settings as the reference `s4d.py` (S4D-Lin): A_n = -1/2 + i pi n, log dt uniform over [log 1e-3, log 1e-1],
    C complex normal, skip normal (Gu et al. 2022). `state` is N, the real dimension: N/2 conjugate pairs are stored.
    """

    DT_MIN, DT_MAX = 1e-3, 1e-1

    def __init__(self, width: int, state: int, bidirectional: bool, backend: str):
        super().__init__()
        pairs = state // 2
        self.bidirectional = bidirectional
        self.backend = backend
        self.log_dt = nn.Parameter(torch.empty(2, width))
        self.log_decay = nn.Parameter(torch.empty(2, width, pairs))
        self.frequency = nn.Parameter(torch.empty(2, width, pairs))
        self.c = nn.Parameter(torch.empty(2, width, pairs, 2))
        self.skip = nn.Parameter(torch.empty(2, width))

    def initial_values(self, name: str, uniform: Tensor, normal: Tensor) -> Tensor:
        """The initial value of parameter `name`, from draws of its shape: uniform on [0, 1) and standard normal."""
        low, high = math.log(self.DT_MIN), math.log(self.DT_MAX)
        pairs = torch.arange(self.frequency.shape[-1])
        match name:
            case "log_dt":
                return low + (high - low) * uniform
            case "log_decay":
                return torch.full_like(self.log_decay, math.log(0.5))
            case "frequency":
                return (math.pi * pairs).expand_as(self.frequency)
            case "c":
                return normal * math.sqrt(0.5)
            case "skip":
                return normal
        raise ValueError(f"S4D has no parameter {name!r}")

    def forward(self, u: Tensor) -> Tensor:
        parameters = S4DParameters(self.log_dt, self.log_decay, self.frequency, self.c, self.skip)
        compute = BACKENDS[choose_backend(self.backend, u.shape[1])]
        with torch.autocast(u.device.type, enabled=False):  # neither exponents nor FFTs bear bfloat16
            return compute(parameters, u.to(self.skip.dtype), self.bidirectional)
