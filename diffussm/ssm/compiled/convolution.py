"""The compiled backend as an operation of torch: checks, scratch memory, autograd."""

import os
from functools import cache
from typing import cast

import torch
from torch import Tensor

from diffussm.ssm.operators import Gradients, Kernels, operator
from diffussm.ssm.parameters import S4DParameters

_importing_process = os.getpid()


def convolve(p: S4DParameters, u: Tensor, bidirectional: bool) -> Tensor:
    """Return y (B, L, 2D) of two S4D layers on u (B, L, D); the second runs right to left if `bidirectional`.

    All tensors must be float32 on a CPU, with matching sizes; anything else raises ValueError."""
    _check(p, u)
    return _convolve(p, u, bidirectional)


def _forward(p: S4DParameters, u: Tensor, bidirectional: bool) -> tuple[Tensor, list[Tensor]]:
    y, kept = _empty(p, u, bidirectional)
    u, *parameters = _plain(u, *p)
    _run("forward", bidirectional, [u, y, *parameters])
    return y, kept


def _empty(_: S4DParameters, u: Tensor, __: bool) -> tuple[Tensor, list[Tensor]]:
    batch, length, width = u.shape
    return u.new_empty(batch, length, 2 * width), []


def _backward(p: S4DParameters, kept: list[Tensor], dy: Tensor, bidirectional: bool) -> Gradients:
    dy, u, *parameters = _plain(dy, *kept, *p)
    du, *gradients = map(torch.empty_like, (u, *parameters))
    _run("backward", bidirectional, [u, None, *parameters, du, dy, *gradients])
    return du, *gradients


_convolve = operator("compiled", Kernels(_forward, _backward, _empty, needs_input=True, keeps=False))


def _plain(*tensors: Tensor) -> list[Tensor]:
    return [tensor.resolve_neg().contiguous() for tensor in tensors]


def _run(name: str, bidirectional: bool, arrays: list[Tensor | None]) -> None:
    """Run a pass on arrays, which are those of `arguments.ARRAYS` or the first of them."""
    from diffussm.ssm.compiled import arguments, threads

    u, c, most = cast(Tensor, arrays[0]), cast(Tensor, arrays[5]), torch.get_num_threads()
    call = arguments.call(name, *u.shape, c.shape[2], bidirectional, most)
    workers = 1 if forked() else min(most, call.blocks)
    scratch = u.new_empty(workers, call.scratch)
    numbers = call.numbers.copy()
    arguments.fill(numbers, [0 if array is None else array.data_ptr() for array in arrays], scratch.data_ptr())
    threads.run(name, numbers, workers)


def forked() -> bool:
    """Return whether this process was forked after this module was imported.

    The threads of its parent are gone then, and waiting for them would never end. The module is imported early, before
    torch computes: in a process forked from one whose torch threads have run, torch itself would hang."""
    return os.getpid() != _importing_process


def computable(tensor: Tensor) -> bool:
    """Return whether this backend can compute with the tensor: float32 on a CPU."""
    return tensor.dtype == torch.float32 and tensor.device.type == "cpu"


def _check(p: S4DParameters, u: Tensor) -> None:
    if u.dim() != 3 or 0 in u.shape:
        raise ValueError(f"u has shape {tuple(u.shape)}, expected (B, L, D) with no dimension of size 0")
    width, pairs = u.shape[2], p.log_decay.shape[-1] if p.log_decay.dim() else 0
    layer = (2, width)
    shapes = [tuple(u.shape), layer, (*layer, pairs), (*layer, pairs), (*layer, pairs, 2), layer]
    tensors = (u, *p)
    if [tensor.shape for tensor in tensors] == shapes and all(map(computable, tensors)):
        return
    for name, tensor, shape in zip(("u", *p._fields), tensors, shapes, strict=True):
        if tensor.shape != shape:
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
