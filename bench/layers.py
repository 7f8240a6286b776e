"""Layers as they are timed: initial values drawn, gates open, a forward pass or a forward and a backward one."""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from bench import costs
from bench.measure import BOTH, FORWARD, Contender
from diffussm.models.build import initialise

Layer = TypeVar("Layer", bound=nn.Module)
SCALE = 0.02  # of a parameter that begins at 0


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
    gradient: Tensor,
    pass_: str,
) -> Callable[[], Any]:
    """A forward pass without autograd; or with it, and back from `gradient` to inputs and parameters."""
    if pass_ == FORWARD:
        return torch.no_grad()(lambda: (layer(*inputs),))
    for tensor in inputs:
        tensor.requires_grad_()
    return lambda: torch.autograd.grad(layer(*inputs), [*inputs, *parameters], gradient)


def contender(
    layer: Callable[..., Tensor],
    inputs: Sequence[Tensor],
    outputs: Sequence[int],
    pass_: str,
    macs: int | None,
    check: Callable[[], None] | None = None,
    layers: Sequence[nn.Module] = (),
    plain: nn.Module | None = None,
) -> Contender:
    """A layer on inputs, with the traffic of both; `outputs` is the shape of what it gives. A function names the
    `layers` that it calls.

    Beside `check`, all that the timed call gives is held against `plain`, which computes the same in another way;
    without that, gradients are held against what the layer gives for inputs and parameters nearby.
    """
    modules = [layer] if isinstance(layer, nn.Module) else layers
    parameters = [parameter for module in modules for parameter in module.parameters()]
    read, weights = (sum(tensor.numel() for tensor in tensors) for tensors in (inputs, parameters))
    gradient = noise(*outputs, device=str(inputs[0].device), seed=2)
    call = calling(layer, inputs, parameters, gradient, pass_)

    def checked() -> None:
        if check:
            check()
        if plain is not None:
            same(call(), calling(plain, inputs, list(plain.parameters()), gradient, pass_)())
        elif pass_ == BOTH:
            slope_holds(layer, [*inputs, *parameters], call(), inputs, gradient)

    return Contender(call, checked, macs, costs.moved(read, math.prod(outputs), weights, pass_))


def same(found: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    """Each tensor to a thousandth of its scale."""
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3 * float(b.abs().max()))


@torch.no_grad()
def slope_holds(
    layer: Callable[..., Tensor],
    moved: Sequence[Tensor],
    gradients: Sequence[Tensor],
    inputs: Sequence[Tensor],
    gradient: Tensor,
) -> None:
    """Along the gradients found, what the layer gives must rise as they say: by their squared length, to a hundredth.

    `moved` are the inputs and parameters that have those gradients; each number moves by a hundredth of its tensor's
    scale at most.
    """
    largest = [float(one.abs().max()) for one in gradients]
    if not max(largest) > 0:
        raise AssertionError(f"the largest of all gradients is {max(largest)}")
    before = [tensor.clone() for tensor in moved]
    scales = [float(tensor.square().mean().sqrt()) or SCALE for tensor in before]
    step = 0.01 * min(scale / most for scale, most in zip(scales, largest, strict=True) if most > 0)

    def at(distance: float) -> float:
        for tensor, start, one in zip(moved, before, gradients, strict=True):
            tensor.copy_(start + distance * one)
        return float((layer(*inputs).double() * gradient).sum())

    try:
        slope = (at(step) - at(-step)) / (2 * step)
    finally:
        for tensor, start in zip(moved, before, strict=True):
            tensor.copy_(start)
    expected = sum(float(one.double().square().sum()) for one in gradients)
    if not math.isclose(slope, expected, rel_tol=0.01):
        raise AssertionError(f"along the gradients found the slope is {slope:.4g}, they say {expected:.4g}")
