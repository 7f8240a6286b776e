"""Weights into a model: all of them fit, or an error names those that do not."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from diffussm.errors import UserError

FIXED = ("pos_embed",)  # functions of the config: may be missing, must be right if they are there
SHOWN = 6


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """A file's weights by name; UserError for one that is missing, cut off or anything else."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: {error}") from None


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
        raise UserError(f"{source}: does not fit the model: {listed(faults)}")
    model.load_state_dict({**{name: own[name] for name in FIXED if name in own}, **weights})


def same_weights(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    """Bit for bit, but for what is fixed and only one of them has."""
    apart = a.keys() ^ b.keys()
    return apart <= set(FIXED) and all(torch.equal(a[name], b[name]) for name in a.keys() & b.keys())


def listed(faults: list[str]) -> str:
    """The first few, and how many more."""
    more = f", and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
    return ", ".join(faults[:SHOWN]) + more


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "one number"


def _close(given: Tensor, own: Tensor) -> bool:
    """To the rounding of the file's precision, of values up to 1; a difference of shape is told elsewhere."""
    if given.shape != own.shape:
        return True
    tolerance = 1e-5 + torch.finfo(given.dtype).eps
    return torch.allclose(given.float().cpu(), own.float().cpu(), rtol=0, atol=tolerance)
