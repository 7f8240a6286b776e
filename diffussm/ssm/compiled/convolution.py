"""The compiled backend as an operation of torch: checks, scratch memory, autograd."""

import os
from functools import cache
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from diffussm.ssm.compiled import plan
from diffussm.ssm.parameters import S4DParameters

_importing_process = os.getpid()


def convolve(p: S4DParameters, u: Tensor, bidirectional: bool) -> Tensor:
    """Return y (B, L, 2D) of two S4D layers on u (B, L, D); the second runs right to left if `bidirectional`.

    All tensors must be float32 on a CPU, with matching sizes; anything else raises ValueError."""
    _check(p, u)
    return CompiledConvolution.apply(u, *p, bidirectional)


class CompiledConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, *rest: Any) -> Tensor:
        *parameters, bidirectional = rest
        inputs = [tensor.resolve_neg().contiguous() for tensor in (u, *parameters)]
        ctx.save_for_backward(*inputs)
        ctx.bidirectional = bidirectional
        batch, length, width = u.shape
        y = u.new_empty(batch, length, 2 * width)
        _run("forward", bidirectional, dict(zip(_INPUTS, inputs, strict=True)) | {"y": y})
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_y: Tensor) -> tuple[Tensor | None, ...]:
        inputs = dict(zip(_INPUTS, ctx.saved_tensors, strict=True))
        gradients = {f"d_{name}": torch.empty_like(tensor) for name, tensor in inputs.items()}
        _run("backward", ctx.bidirectional, {**inputs, **gradients, "d_y": d_y.resolve_neg().contiguous()})
        return *gradients.values(), None


_INPUTS = ("u", *S4DParameters._fields)


def _run(name: str, bidirectional: bool, arrays: dict[str, Tensor]) -> None:
    from diffussm.ssm.compiled import threads
    from diffussm.ssm.compiled.arguments import COUNTERS, KERNEL_ARGUMENTS

    batch, length, width = arrays["u"].shape
    stored_pairs = arrays["c"].shape[2]
    block_sizes = plan.block_sizes(batch, length, width, stored_pairs, torch.get_num_threads())
    workers = 1 if forked() else min(torch.get_num_threads(), -(-width // block_sizes.channels))
    counts = plan.scratch(block_sizes, backward=name == "backward")
    scratch = arrays["u"].new_empty(workers, sum(counts.values()))
    counters = np.zeros(len(COUNTERS), np.int64)
    args = np.zeros(1, KERNEL_ARGUMENTS)
    sizes = {"batch": batch, "length": length, "width": width, "stored_pairs": stored_pairs, **block_sizes._asdict()}
    for field, value in {**sizes, "bidirectional": bidirectional, "scratch_bytes": 4 * scratch.shape[1]}.items():
        args[field] = value
    for array, tensor in arrays.items():
        args[array] = tensor.data_ptr()
    for array, start in zip(counts, accumulate(counts.values(), initial=0), strict=False):
        args[array] = scratch.data_ptr() + 4 * start
    for number, counter in enumerate(COUNTERS):
        args[counter] = counters.ctypes.data + 8 * number
    threads.run(name, args, workers)


def forked() -> bool:
    """Return whether this process was forked after this module was imported.

    The threads of its parent are gone then, and waiting for them would never end. The module is imported early, before
    torch computes: in a process forked from one whose torch threads have run, torch itself would hang."""
    return os.getpid() != _importing_process


def computable(tensor: Tensor) -> bool:
    """Return whether this backend can compute with the tensor: float32 data on a CPU, not a placeholder in a trace."""
    plain = type(tensor) in (Tensor, torch.nn.Parameter)
    return plain and tensor.dtype == torch.float32 and tensor.device.type == "cpu"


def _check(p: S4DParameters, u: Tensor) -> None:
    if u.dim() != 3 or 0 in u.shape:
        raise ValueError(f"u has shape {tuple(u.shape)}, expected (B, L, D) with no dimension of size 0")
    width, pairs = u.shape[2], p.log_decay.shape[-1] if p.log_decay.dim() else 0
    layer = (2, width)
    shapes = (tuple(u.shape), layer, (*layer, pairs), (*layer, pairs), (*layer, pairs, 2), layer)
    for name, tensor, shape in zip(_INPUTS, (u, *p), shapes, strict=True):
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected {shape}")
        if not computable(tensor):
            raise ValueError(
                f"{name} is {tensor.dtype} on {tensor.device}; the compiled backend computes float32 on CPUs"
            )


@cache
def unavailable_reason() -> str:
    """Return why this backend cannot run in this process, or "" if it can. Compiles it if it is not compiled yet."""
    try:
        from diffussm.ssm.compiled import threads

        threads.prepare()
    except Exception as error:  # whatever fails inside numba or llvmlite, plain torch can compute instead
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return ""
