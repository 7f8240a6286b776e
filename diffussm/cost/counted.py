"""Multiply-adds of a model as fvcore traces them: dense products only, for it sees no FFTs and no custom Functions."""

import math
import warnings
from collections import Counter
from typing import Any

import torch
from torch import nn

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message=r"`torch.jit.script` is ")
    from fvcore.nn import FlopCountAnalysis

DENSE = (
    "linear",
    "addmm",
    "matmul",
    "bmm",
    "baddbmm",
    "conv",
)  # einsum makes S4D's kernels, once per call: not a dense layer


HEAVY = ("attention", "fft", "PythonOp", "einsum", "conv")  # in the name of an operator that may cost much


def dense_macs(model: nn.Module, inputs: tuple[torch.Tensor, ...]) -> int:
    """MACs of the dense products of `model(*inputs)`; fvcore counts one per multiply-add."""
    return _sum(_counts(model, inputs), DENSE)


def products_and_unseen(model: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[int, list[str]]:
    """MACs of dense products and einsums, and the names of heavy operators that are not among them."""
    counts = _counts(model, inputs)
    products = _sum(counts, (*DENSE, "einsum"))
    unseen = [name for name in counts.unsupported_ops() if any(word in name for word in HEAVY)]
    return products, sorted(unseen)


def _counts(model: nn.Module, inputs: tuple[torch.Tensor, ...]) -> Any:
    counts = FlopCountAnalysis(model, inputs).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    return counts.set_op_handle("aten::baddbmm", _baddbmm)


def _sum(counts: Any, names: tuple[str, ...]) -> int:
    by_operator: Counter[str] = counts.by_operator()
    return round(sum(by_operator[name] for name in names))


def _baddbmm(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """(n, a, b) x (n, b, c): n a b c MACs; fvcore itself has no handle for it."""
    inner = inputs[1].type().sizes()[-1]
    return Counter(baddbmm=math.prod(outputs[0].type().sizes()) * inner)
