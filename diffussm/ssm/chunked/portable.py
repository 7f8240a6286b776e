"""The portable backend in its two forms: blocks of channels that fit a CPU's caches, and all channels at once."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from diffussm.ssm.chunked import batched, blocks
from diffussm.ssm.parameters import S4DParameters

_in_blocks = ContextVar("in_blocks", default=False)


def is_batched(device: str) -> bool:
    """Return whether all channels are computed at once on a type of device; `meta` stands for a CPU."""
    return device not in ("cpu", "meta") and not _in_blocks.get()


@contextmanager
def in_blocks() -> Iterator[None]:
    """Compute in blocks on any device, to compare what that takes."""
    token = _in_blocks.set(True)
    try:
        yield
    finally:
        _in_blocks.reset(token)


def convolve(p: S4DParameters, u: Tensor, bidirectional: bool) -> Tensor:
    """Return y (B, L, 2D) of two S4D layers on u (B, L, D), in the precision of u; the second runs right to left if
    `bidirectional`."""
    form = batched if is_batched(u.device.type) else blocks
    return form.convolve(p, u, bidirectional)


def input_dtype(device: str, parameters: torch.dtype) -> torch.dtype:
    """Return the precision in which `convolve` takes u where parameters are in `parameters`: bfloat16 where autocast
    has dense layers multiply in it, if all channels are computed at once."""
    if is_batched(device) and torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.bfloat16:
        return torch.bfloat16
    return parameters
