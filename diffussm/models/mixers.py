"""What mixes along the sequence inside a DiffuSSM block: the protocol, a copy, and classes from outside.

A mixer is a module u (B, L, D) -> y (B, L, 2D), made from the model's config. One from outside this package is named
`package.module:Class`, made as `Class(config)`, and may say more of itself:

    macs(config) -> int            static: multiply-adds of one call on one image; without it the cost is "unknown"
    ssm_parameters() -> list[str]  names of parameters that train at lr x ssm_lr_scale and without weight decay
    directions = ("forward",)      the values of model.direction that it knows, where it does not know both

Its initial values are those that its constructor draws from torch's generator, which is seeded from the run's seed.
"""

import importlib
import sys
from numbers import Integral
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffussm.config import ModelConfig
from diffussm.errors import UserError
from diffussm.models.layers import SelfAttention
from diffussm.ssm.s4d import S4D


class Identity(nn.Module):
    """A copy in place of mixing: what the dense layers alone can do, and what they alone cost."""

    def forward(self, u: Tensor) -> Tensor:
        return torch.cat([u, u], dim=-1)


def build_mixer(config: ModelConfig, backend: str) -> nn.Module:
    match config.mixer:
        case "s4d":
            bidirectional = config.direction == "bidirectional"
            return S4D(config.width, config.state, bidirectional, backend, config.s4d_init)
        case "attention":  # the paper puts it in the SSM's place without saying how; this is our reading
            return SelfAttention(config.width, config.heads, 2 * config.width)
        case "identity":
            return Identity()
    return _made(config)


def ssm_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that train at a rate of their own and without weight decay, as the model's mixers name them."""
    mixers: list[Any] = [module for module in model.modules() if hasattr(module, "ssm_parameters")]
    return [mixer.get_parameter(name) for mixer in mixers for name in mixer.ssm_parameters()]


def external_class(name: str) -> Any:
    """The class `package.module:Class`, from the path or the working folder; UserError if there is none."""
    module, _, attribute = name.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(f"model.mixer = {name!r}: {error}") from None
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise UserError(f"model.mixer = {name!r}: not a class of torch.nn.Module")
    return found


def directions(mixer_class: Any) -> tuple[str, ...]:
    """The values of model.direction that a class from outside knows."""
    return tuple(getattr(mixer_class, "directions", ("bidirectional", "forward")))


def external_macs(config: ModelConfig) -> int | None:
    """MACs of one call on one image as the mixer's class states them; None where it states none."""
    found = external_class(config.mixer)
    if not hasattr(found, "macs"):
        return None
    stated = found.macs(config)
    if not isinstance(stated, Integral) or stated < 0:
        raise UserError(f"model.mixer = {config.mixer!r}: its macs gives {stated!r}; allowed: a whole number from 0")
    return int(stated)


def external_parameters(config: ModelConfig) -> int:
    """Parameters of one such mixer, counted without allocating any."""
    with torch.device("meta"):
        return sum(p.numel() for p in _made(config).parameters())


def _made(config: ModelConfig) -> nn.Module:
    found = external_class(config.mixer)
    if config.direction not in directions(found):
        known = ", ".join(directions(found))
        raise UserError(f"model.direction = {config.direction}: {config.mixer} knows {known} only")
    return found(config)
