"""Mixers, which mix along the sequence inside a DiffuSSM block: those of this package, and external classes.

A mixer is a module u (B, L, D) -> y (B, L, 2D), built from the model's config. An external mixer, from outside this
package, is named `package.module:Class`, built as `Class(config)`, and may define more:

    macs(config) -> int            static: multiply-adds of one call on one image; without it the cost is "unknown"
    ssm_parameters() -> list[str]  names of parameters that train at lr x ssm_lr_scale and without weight decay
    directions = ("forward",)      the values of model.direction that it supports, if not both

Its initial values are those that its constructor draws from torch's generator, which is seeded with the run's seed.
"""

from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

from diffussm.config import ModelConfig
from diffussm.errors import UserError
from diffussm.external import external_class
from diffussm.models.layers import SelfAttention
from diffussm.ssm.s4d import S4D


class Identity(nn.Module):
    """No mixing: the output is two copies of the input. Shows what the dense layers achieve and cost on their own."""

    def forward(self, u: Tensor) -> Tensor:
        return torch.cat([u, u], dim=-1)


def build_mixer(config: ModelConfig, backend: str) -> nn.Module:
    """Return the config's mixer; `backend` computes S4D."""
    match config.mixer:
        case "s4d":
            bidirectional = config.direction == "bidirectional"
            return S4D(config.width, config.state, bidirectional, backend, config.s4d_init)
        case "attention":  # in place of the SSM; the paper gives no details, so this is an interpretation
            return SelfAttention(config.width, config.heads, 2 * config.width)
        case "identity":
            return Identity()
    return _build_external(config)


def ssm_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that train at their own learning rate and without weight decay, as the mixers name them."""
    mixers: list[Any] = [module for module in model.modules() if hasattr(module, "ssm_parameters")]
    return [mixer.get_parameter(name) for mixer in mixers for name in mixer.ssm_parameters()]


def mixer_class(name: str) -> Any:
    """Return the class `package.module:Class` of a mixer; raise UserError if it is none."""
    found = external_class("model.mixer", name)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise UserError(f"model.mixer = {name!r}: not a subclass of torch.nn.Module")
    return found


def directions(found: Any) -> tuple[str, ...]:
    """Return the values of model.direction that an external mixer supports."""
    return tuple(getattr(found, "directions", ("bidirectional", "forward")))


def external_macs(config: ModelConfig) -> int | None:
    """Return the MACs of one call on one image as the mixer's class states them; None if it states none."""
    found = mixer_class(config.mixer)
    if not hasattr(found, "macs"):
        return None
    stated = found.macs(config)
    if not isinstance(stated, Integral) or stated < 0:
        raise UserError(f"model.mixer = {config.mixer!r}: its macs() returned {stated!r}, expected an integer >= 0")
    return int(stated)


def external_parameters(config: ModelConfig) -> int:
    """Return the number of parameters of an external mixer, counted without allocating them."""
    with torch.device("meta"):
        return sum(p.numel() for p in _build_external(config).parameters())


def _build_external(config: ModelConfig) -> nn.Module:
    found = mixer_class(config.mixer)
    if config.direction not in directions(found):
        supported = ", ".join(directions(found))
        raise UserError(f"model.direction = {config.direction}: {config.mixer} supports {supported} only")
    return found(config)
