"""Loading weights into a model: either all of them fit, or an error names those that do not."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from diffussm.errors import UserError

FIXED = ("pos_embed",)  # functions of the config: may be missing, but must be correct if present
SHOWN = 6


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Copy `weights` into the model; UserError names `source` and the weights that are missing, unknown or of the wrong
    shape."""
    own = model.state_dict()
    faults = [f"{name} is missing" for name in own if name not in weights and name not in FIXED]
    faults += [f"{name} is unknown" for name in weights if name not in own]
    faults += [
        f"{name} has shape {_shape(weights[name])}, expected {_shape(own[name])}"
        for name in own
        if name in weights and weights[name].shape != own[name].shape
    ]
    faults += [
        f"{name} has wrong values (it is a function of the config)"
        for name in FIXED
        if name in own and name in weights and not _close(weights[name], own[name])
    ]
    if faults:
        raise UserError(f"{source}: does not fit the model: {listed(faults)}")
    model.load_state_dict({**{name: own[name] for name in FIXED if name in own}, **weights})


def same_weights(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    """Return whether two sets of weights are bit-identical, apart from `FIXED` ones that only one of them has."""
    unshared = a.keys() ^ b.keys()
    return unshared <= set(FIXED) and all(torch.equal(a[name], b[name]) for name in a.keys() & b.keys())


def listed(faults: list[str]) -> str:
    """Return the first few faults, and how many more there are."""
    more = f", and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
    return ", ".join(faults[:SHOWN]) + more


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a scalar"


def _close(given: Tensor, own: Tensor) -> bool:
    """Return whether values of at most 1 agree to the file's precision; shapes are checked elsewhere."""
    if given.shape != own.shape:
        return True
    tolerance = 1e-5 + torch.finfo(given.dtype).eps
    return torch.allclose(given.float().cpu(), own.float().cpu(), rtol=0, atol=tolerance)
