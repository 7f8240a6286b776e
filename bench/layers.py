"""Layers as they are timed: initial values drawn, gates open, a forward pass or a forward and a backward one."""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from bench import costs
from bench.measure import FORWARD, Contender
from diffussm.models.build import initialise

Layer = TypeVar("Layer", bound=nn.Module)


def ready(layer: Layer, device: str) -> Layer:
    """With initial values, those of adaLN not zero: a block that is the identity would hide what it computes."""
    initialise(layer, seed=0)
    for name, parameter in layer.named_parameters():
        if "adaLN_modulation" in name:
            nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(0))
    return layer.to(device)


def noise(*shape: int, device: str, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device)


def calling(
    layer: Callable[..., Tensor],
    inputs: Sequence[Tensor],
    parameters: Sequence[Tensor],
    outputs: Sequence[int],
    pass_: str,
) -> Callable[[], Any]:
    """A forward pass without autograd; or with it, and back from a random gradient of the shape `outputs` to inputs and
    parameters."""
    if pass_ == FORWARD:
        return torch.no_grad()(lambda: layer(*inputs))
    for tensor in inputs:
        tensor.requires_grad_()
    gradient = noise(*outputs, device=str(inputs[0].device), seed=2)
    return lambda: torch.autograd.grad(layer(*inputs), [*inputs, *parameters], gradient)


def contender(
    layer: Callable[..., Tensor],
    inputs: Sequence[Tensor],
    outputs: Sequence[int],
    pass_: str,
    macs: int | None,
    check: Callable[[], None] | None = None,
    layers: Sequence[nn.Module] = (),
) -> Contender:
    """A layer on inputs, with the traffic of both; `outputs` is the shape of what it gives. A function names the
    `layers` that it calls."""
    modules = [layer] if isinstance(layer, nn.Module) else layers
    parameters = [parameter for module in modules for parameter in module.parameters()]
    read, weights = (sum(tensor.numel() for tensor in tensors) for tensors in (inputs, parameters))
    call = calling(layer, inputs, parameters, outputs, pass_)
    return Contender(call, check, macs, costs.moved(read, math.prod(outputs), weights, pass_))
