"""Weights into a model: all of them fit, or an error names those that do not."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from diffussm.errors import UserError

FIXED = ("pos_embed",)  # functions of the config: may be missing, must be right if they are there
FIXED_TOLERANCE = 1e-4  # half precision in a checkpoint, of values up to 1
SHOWN = 6


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Copy `weights` into the model; UserError naming `source` and what is missing, unknown or of another shape."""
    own = model.state_dict()
    faults = [f"{name} is missing" for name in own if name not in weights and name not in FIXED]
    faults += [f"{name} is unknown" for name in weights if name not in own]
    faults += [
        f"{name} has shape {_shape(weights[name])}, not {_shape(own[name])}"
        for name in own
        if name in weights and weights[name].shape != own[name].shape
    ]
    faults += [
        f"{name} is another one"
        for name in FIXED
        if name in own and name in weights and not _close(weights[name], own[name])
    ]
    if faults:
        more = f", and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise UserError(f"{source}: does not fit the model: {', '.join(faults[:SHOWN])}{more}")
    model.load_state_dict({**{name: own[name] for name in FIXED if name in own}, **weights})


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "one number"


def _close(a: Tensor, b: Tensor) -> bool:
    return a.shape != b.shape or torch.allclose(a.float().cpu(), b.float().cpu(), rtol=0, atol=FIXED_TOLERANCE)
