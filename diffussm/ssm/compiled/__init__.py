"""S4D compiled by numba for CPUs: exact, in time linear in L, at a small part of the cost of the dense layers.

The algorithm is that of `chunked`, in loops of its own. Per channel and layer, K_l = Re(sum_n w_n a_n^l) with a = e^z
(`discretisation`), and a sequence cut into chunks of C positions:

    y_k = u_k T + Re(h_k W),    T[j, i] = K[i - j] for i >= j,    W[n, i] = w_n a_n^(i + 1)
    h_(k+1) = a^C h_k + s_k,    s_k = u_k V,                      V[j, n] = a_n^(C - 1 - j)

for a layer that runs left to right; one that runs right to left is its mirror image (T transposed, rows of V and columns
of W in reverse order, the state carried from the right). A short sequence is one chunk: a product with T and nothing
else. The skip is part of K_0.

The backward pass keeps nothing but u and the parameters: tables and states are made again. With g the gradient of y, on
a layer that runs left to right,

    of T: sum_l of its diagonals, dK_l = sum_rows sum_j u_j g_(j + l);   of W: sum_rows h^* g;   of h: g W^H
    of s, carried from the right: d_k = conj(a^C) d_(k+1) + (g W^H)_(k+1);   of a^C: sum conj(h_k) d_k
    of V: sum_rows u d;                                                   of u: g T^T + Re(d V^H)

and with E_l the gradient of w a^l, in K and in W, and F_l that of a^l, in V and in the carry,

    dw = sum_l E_l conj(a^l),    dz = sum_l l (conj(w) E_l + F_l) conj(a^l)

from where `discretisation` goes back to the parameters.

A thread takes eight channels at a time (`task`), turns them from (B, L, D) into rows (`layout`), makes a channel's
tables (`channel`), and multiplies by tiles that stay in registers (`tile`, `products`); `kernels` puts that together.
Powers of a are made by doubling from double-precision squares: one float32 rounding each. Sums run in an order that
depends on B, L and C alone: results are the same to the bit on any number of threads.
"""

from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from diffussm.ssm.compiled import fork, plan
from diffussm.ssm.parameters import S4DParameters

__all__ = ["convolve", "fork", "obstacle"]


def convolve(p: S4DParameters, u: Tensor, bidirectional: bool) -> Tensor:
    """y (B, L, 2D) of two S4D layers on u (B, L, D); the second runs right to left if `bidirectional`.

    Float32 on a CPU; ValueError for anything else, and for parameters of other sizes."""
    _check(p, u)
    return CompiledConvolution.apply(u, *p, bidirectional)


class CompiledConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, *rest: Any) -> Tensor:
        *parameters, bidirectional = rest
        inputs = [tensor.contiguous() for tensor in (u, *parameters)]
        ctx.save_for_backward(*inputs)
        ctx.bidirectional = bidirectional
        batch, length, width = u.shape
        y = torch.empty(batch, length, 2 * width)
        _run("forward", bidirectional, dict(zip(_INPUTS, inputs, strict=True)) | {"y": y})
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_y: Tensor) -> tuple[Tensor | None, ...]:
        inputs = dict(zip(_INPUTS, ctx.saved_tensors, strict=True))
        gradients = {f"of_{name}": torch.empty_like(tensor) for name, tensor in inputs.items()}
        _run("backward", ctx.bidirectional, {**inputs, **gradients, "of_y": of_y.contiguous()})
        return *gradients.values(), None


_INPUTS = ("u", *S4DParameters._fields)


def _run(name: str, bidirectional: bool, arrays: dict[str, Tensor]) -> None:
    from diffussm.ssm.compiled import threads
    from diffussm.ssm.compiled.task import COUNTERS, TASK

    batch, length, width = arrays["u"].shape
    stored_pairs = arrays["c"].shape[2]
    cut = plan.cut(batch, length, width, stored_pairs, torch.get_num_threads())
    workers = min(torch.get_num_threads(), -(-width // cut.channels))
    counts = plan.scratch(cut, backward=name == "backward")
    scratch, counters = torch.empty(workers, sum(counts.values())), np.zeros(len(COUNTERS), np.int64)
    task = np.zeros(1, TASK)
    sizes = {"batch": batch, "length": length, "width": width, "stored_pairs": stored_pairs, **cut._asdict()}
    for field, value in {**sizes, "bidirectional": bidirectional, "scratch_bytes": 4 * scratch.shape[1]}.items():
        task[field] = value
    for array, tensor in arrays.items():
        task[array] = tensor.data_ptr()
    for array, start in zip(counts, accumulate(counts.values(), initial=0), strict=False):
        task[array] = scratch.data_ptr() + 4 * start
    for number, counter in enumerate(COUNTERS):
        task[counter] = counters.ctypes.data + 8 * number
    threads.run(name, task, workers)


def _check(p: S4DParameters, u: Tensor) -> None:
    if u.dim() != 3 or 0 in u.shape:
        raise ValueError(f"u has shape {tuple(u.shape)}; needed: (B, L, D), none of them 0")
    width, pairs = u.shape[2], p.log_decay.shape[-1]
    layer = (2, width)
    expected = S4DParameters(layer, (*layer, pairs), (*layer, pairs), (*layer, pairs, 2), layer)  # type: ignore[arg-type]
    for name, tensor, shape in zip(_INPUTS, (u, *p), (tuple(u.shape), *expected), strict=True):
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}; needed: {shape}")
        if tensor.dtype != torch.float32 or tensor.device.type != "cpu":
            raise ValueError(f"{name} is {tensor.dtype} on {tensor.device}; the compiled backend computes float32 on CPUs")


def obstacle() -> str:
    """Why this backend cannot run in this process: "" if it can. Compiles, where that is still to be done."""
    try:
        from diffussm.ssm.compiled import threads

        threads.prepare()
    except Exception as error:  # whatever numba or llvmlite finds wrong here, plain torch can do instead
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return ""
