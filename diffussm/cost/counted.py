"""Multiply-adds of a model as counted by fvcore, from a traced graph, and by torch's FlopCounterMode.

fvcore runs the model on real tensors. An operator without a handle that touches more than `THRESHOLD` numbers is an
error that names it, so no expensive operator is missed. FlopCounterMode runs the model on meta tensors; it counts
matrix products and attention only, including those inside S4D's operators. Only eager code is counted.
"""

import math
import warnings
from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from diffussm.config import Config
from diffussm.cost.handles import handles
from diffussm.models.build import build_uninitialised
from diffussm.ssm.backends import backend_for_cost
from diffussm.ssm.inside import InsideOperators

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message=r"`torch.jit.script` is ")
    from fvcore.nn import FlopCountAnalysis
    from fvcore.nn.jit_handles import conv_flop_jit

THRESHOLD = 1000

Counts = dict[str, Counter[str]]  # module -> operator -> MACs; "" is the whole model


class Uncounted(Exception):
    """The cost cannot be counted or compared; the message names the operators without a handle, or the mixer."""


def fvcore_counts(model: nn.Module, inputs: tuple[Tensor, ...]) -> Counts:
    """Return the MACs of `model(*inputs)` by module and operator. Raises Uncounted."""
    analysis = FlopCountAnalysis(model, inputs).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    analysis.clear_op_handles().set_op_handle(**handles(conv_flop_jit))
    with torch.no_grad():
        analysis.total()
    if without_handle := analysis.unsupported_ops():
        touched: Counter[str] = Counter()
        analysis.set_op_handle(**{name: _touching(name, touched) for name in without_handle})
        with torch.no_grad():
            analysis.total()
        expensive = [f"{name} ({n:,} numbers)" for name, n in sorted(touched.items()) if n > THRESHOLD]
        if expensive:
            raise Uncounted(f"no handle counts {', '.join(expensive)}")
    return analysis.by_module_and_operator()


def fvcore_macs(config: Config, backend: str | None = None) -> tuple[int, int]:
    """Return the MACs of a network call per image, and once per call; found by calls on one image and on two.

    `backend` is that of the config if None. Raises Uncounted.
    """
    model = _empty_model(config, backend, "cpu")
    one, two = (sum(fvcore_counts(model, _inputs(config, n, "cpu"))[""].values()) for n in (1, 2))
    return round(two - one), round(2 * one - two)


def torch_macs(config: Config, backend: str | None = None) -> int:
    """Return the MACs of matrix products and attention per image, found likewise; torch counts 2 FLOPs for each."""
    model = _empty_model(config, backend, "meta")
    flops = []
    in_place = {torch.ops.aten.baddbmm_: _baddbmm_flops}  # torch itself counts the out-of-place form only
    for n in (1, 2):
        counter = FlopCounterMode(display=False, custom_mapping=in_place)
        with torch.no_grad(), counter, InsideOperators():
            model(*_inputs(config, n, "meta"))
        flops.append(counter.get_total_flops())
    one, two = flops
    return (two - one) // 2


def _baddbmm_flops(_: torch.Size, a: torch.Size, b: torch.Size, **__: Any) -> int:
    return 2 * math.prod(a) * b[-1]


def _touching(name: str, touched: Counter[str]) -> Any:
    """Return a handle that counts no MACs, but adds up how many numbers the operator touches."""

    def handle(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
        touched[name] += sum(map(_numbers, (*inputs, *outputs)))
        return Counter()

    return handle


def _numbers(value: Any) -> int:
    """Return how many numbers a tensor, or a list of tensors, has."""
    if value.type().kind() == "TensorType":
        return math.prod(value.type().sizes() or ())
    return sum(map(_numbers, value.node().inputs())) if value.node().kind() == "prim::ListConstruct" else 0


def _empty_model(config: Config, backend: str | None, device: str) -> nn.Module:
    """Return the model with all weights zero; counts depend on shapes alone."""
    with torch.device("meta"):
        model = build_uninitialised(config.model, config.outputs, backend_for_cost(backend or config.training.backend))
    if device != "meta":
        model.to_empty(device=device)
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            tensor.data.fill_(-7 if name.endswith("log_dt") else 0)  # a slowly decaying state: no denormal numbers
    return model.eval()


def _inputs(config: Config, batch: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
    m = config.model
    images = torch.zeros(batch, m.channels, m.image_size, m.image_size, device=device)
    index = torch.zeros(batch, dtype=torch.long, device=device)
    return images, index, index
