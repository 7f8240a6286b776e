"""Layers to be timed: initialised, with open gates; a forward pass, or a forward and a backward pass."""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from bench import costs
from bench.measure import BOTH, FORWARD, Contender
from diffussm.models.build import initialise

Layer = TypeVar("Layer", bound=nn.Module)
SCALE = 0.02  # assumed for a parameter that is zero


def initialised(layer: Layer, device: str) -> Layer:
    """Return the layer with initial values, of which those of adaLN are not zero: in a block that is the identity, an
    error would not show."""
    initialise(layer, seed=0)
    for name, parameter in layer.named_parameters():
        if "adaLN_modulation" in name:
            nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(0))
    return layer.to(device)


def noise(*shape: int, device: str, seed: int = 0) -> Tensor:
    """Return standard normal noise, the same for each shape and seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device)


def make_call(
    layer: Callable[..., Tensor],
    inputs: Sequence[Tensor],
    parameters: Sequence[Tensor],
    gradient: Tensor,
    pass_: str,
) -> Callable[[], Any]:
    """Return a call of the layer: a forward pass without autograd, or one with autograd and a backward pass from
    `gradient` to inputs and parameters."""
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
    """Return a layer on inputs as a contender, with its memory traffic. `outputs` is the shape of its output; `layers`
    are the modules that it calls if it is a function.

    In addition to `check`, all results of the timed call are compared with those of `plain`, which computes the same in
    another way; without it, gradients are compared with finite differences.
    """
    modules = [layer] if isinstance(layer, nn.Module) else layers
    parameters = [parameter for module in modules for parameter in module.parameters()]
    read, weights = (sum(tensor.numel() for tensor in tensors) for tensors in (inputs, parameters))
    gradient = noise(*outputs, device=str(inputs[0].device), seed=2)
    call = make_call(layer, inputs, parameters, gradient, pass_)

    def checked() -> None:
        if check:
            check()
        if plain is not None:
            assert_close(call(), make_call(plain, inputs, list(plain.parameters()), gradient, pass_)())
        elif pass_ == BOTH:
            assert_gradients_match(layer, [*inputs, *parameters], call(), inputs, gradient)

    return Contender(call, checked, macs, costs.bytes_moved(read, math.prod(outputs), weights, pass_))


def assert_close(found: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    """Assert that tensors are equal to a thousandth of their scale."""
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3 * float(b.abs().max()))


@torch.no_grad()
def assert_gradients_match(
    layer: Callable[..., Tensor],
    leaves: Sequence[Tensor],
    gradients: Sequence[Tensor],
    inputs: Sequence[Tensor],
    gradient: Tensor,
) -> None:
    """Assert that the slope along the gradients is their squared norm, to a hundredth, by a central difference.

    `leaves` are the inputs and parameters that have those gradients; each number changes by at most a hundredth of the
    scale of its tensor.
    """
    largest = [float(one.abs().max()) for one in gradients]
    if not max(largest) > 0:
        raise AssertionError(f"the largest of all gradients is {max(largest)}")
    before = [tensor.clone() for tensor in leaves]
    scales = [float(tensor.square().mean().sqrt()) or SCALE for tensor in before]
    step = 0.01 * min(scale / most for scale, most in zip(scales, largest, strict=True) if most > 0)

    def at(distance: float) -> float:
        for tensor, start, one in zip(leaves, before, gradients, strict=True):
            tensor.copy_(start + distance * one)
        return float((layer(*inputs).double() * gradient).sum())

    try:
        slope = (at(step) - at(-step)) / (2 * step)
    finally:
        for tensor, start in zip(leaves, before, strict=True):
            tensor.copy_(start)
    expected = sum(float(one.double().square().sum()) for one in gradients)
    if not math.isclose(slope, expected, rel_tol=0.01):
        raise AssertionError(f"the slope along the gradients is {slope:.4g}, expected {expected:.4g}")
