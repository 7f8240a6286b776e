"""S4D layers, sequences for them, and what the layers make of these."""

from collections.abc import Callable

import torch
from torch import Tensor

from diffussm.models.build import initialise
from diffussm.ssm.parameters import S4DParameters
from diffussm.ssm.s4d import S4D

Compute = Callable[[S4DParameters, Tensor, bool], Tensor]


def layer(width: int, state: int, bidirectional: bool = True, backend: str = "compiled") -> S4D:
    made = S4D(width, state, bidirectional, backend)
    initialise(made, seed=1)
    return made


def sequences(batch: int, length: int, width: int) -> tuple[Tensor, Tensor]:
    """u (B, L, D) and dy (B, L, 2D), float32."""
    generator = torch.Generator().manual_seed(length)
    u, dy = (torch.randn(batch, length, k * width, generator=generator) for k in (1, 2))
    return u, dy


def outputs_and_gradients(made: S4D, u: Tensor, dy: Tensor, compute: Compute | None = None) -> dict[str, Tensor]:
    """y, and its gradients with respect to u and every parameter; by `compute` instead of the layer's backend."""
    u = u.clone().requires_grad_()
    parameters = dict(made.named_parameters())
    y = compute(S4DParameters(**parameters), u, made.bidirectional) if compute else made(u)
    gradients = torch.autograd.grad(y, [u, *parameters.values()], dy)
    return {"y": y.detach(), **dict(zip(["u", *parameters], gradients, strict=True))}
