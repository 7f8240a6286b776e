"""What a GPU runs for a block of DiffuSSM: launches, bytes and operations, counted on tensors without values.

Each operator of torch that computes is a launch, also inside of S4D's operators; views and new memory are none. Bytes
are those of the numbers that an operator reads and writes, each once, as if no cache had them from the operator before.
FLOPs are those of matrix products, two for a multiply-add. The block computes eagerly, as without torch.compile.
"""

import math
from collections import Counter as Waiting
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import zip_longest
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from diffussm.config import Config
from diffussm.cost.closed_form import stream_length
from diffussm.errors import UserError
from diffussm.models.diffussm import Block
from diffussm.ssm.backends import PORTABLE, backend_for_cost
from diffussm.ssm.chunked import portable
from diffussm.ssm.inside import InsideOperators

ALLOCATIONS = frozenset({"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"})
OVERWRITING = frozenset({"copy_", "fill_", "zero_"})  # these do not read what they change
LEGEND = """\
Kernels: what a GPU runs for a block, and for its mixer alone, without torch.compile. An operator of torch that computes
is a launch. Bytes are of the numbers that it reads and writes; FLOPs are of matrix products, two for a multiply-add."""
PRODUCTS = {"mm": 0, "bmm": 0, "matmul": 0, "addmm": 1, "baddbmm": 1, "baddbmm_": 1}  # index of the first factor
IN_BLOCKS = "chunked, in blocks of channels"  # the form of `chunked` for CPUs, on a GPU


class Run(NamedTuple):
    """What a pass takes."""

    launches: int
    bytes: int
    flops: int

    def __add__(self, other: "Run") -> "Run":  # type: ignore[override]
        return Run(*(one + another for one, another in zip(self, other, strict=True)))


class Counter(TorchDispatchMode):
    """Counts what is run where the mode is active."""

    def __init__(self) -> None:
        super().__init__()
        self.run = Run(0, 0, 0)

    def __torch_dispatch__(self, operator: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = operator(*args, **kwargs)
        name = operator.overloadpacket.__name__
        inputs, outputs = _tensors((args, kwargs)), _tensors(out)
        computes = operator._schema.is_mutable or not _storages(outputs) & _storages(inputs)
        if outputs and computes and name not in ALLOCATIONS:
            unread = [args[0]] if name in OVERWRITING else _tensors(kwargs.get("out"))
            read = [tensor for tensor in inputs if not any(tensor is other for other in unread)]
            read = [] if name.startswith("new_") or name.endswith("_like") else read
            flops = 2 * outputs[0].numel() * args[PRODUCTS[name]].shape[-1] if name in PRODUCTS else 0
            self.run += Run(1, sum(map(_bytes, (*read, *outputs))), flops)
        return out


def block_runs(config: Config, images: int) -> dict[tuple[str, str, str], Run]:
    """Return what a GPU runs by backend, part (`block`, or `mixer` alone) and pass; `chunked` is there in the form for
    CPUs too. Raises UserError if the config's model has no S4D."""
    if config.model.kind != "diffussm" or config.model.mixer != "s4d":
        raise UserError("--kernels: counts blocks of DiffuSSM with S4D")
    name = backend_for_cost(config.training.backend)
    name = PORTABLE if name == "compiled" else name  # which computes on CPUs only
    found: dict[tuple[str, str, str], Run] = {}
    for label in (IN_BLOCKS, name) if name == PORTABLE else (name,):
        with portable.in_blocks() if label == IN_BLOCKS else nullcontext(), gpu_without_values():
            for part, passes in _parts(config, images, name).items():
                for direction, run in passes.items():
                    found[label, part, direction] = run
    return found


def rows(config: Config, images: int) -> list[dict[str, Any]]:
    """Return a row for each pass of each part by each backend, and for both passes together."""
    found: dict[tuple[str, str], dict[str, Run]] = {}
    for (backend, part, direction), run in block_runs(config, images).items():
        found.setdefault((backend, part), {})[direction] = run
    return [
        {"backend": backend, "part": part, "pass": direction, **run._asdict()}
        for (backend, part), passes in found.items()
        for direction, run in {**passes, "both": passes["forward"] + passes["backward"]}.items()
    ]


def _parts(config: Config, images: int, backend: str) -> dict[str, dict[str, Run]]:
    m, precision = config.model, config.training.precision
    block = Block(m, backend)
    stream, condition = torch.empty(images, stream_length(m), m.width), torch.empty(images, m.width)
    u = torch.empty(images, m.length, m.width, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
    return {
        "block": passes(block, precision, stream, condition),
        "mixer": passes(block.mixer, precision, u),
    }


def passes(module: nn.Module, precision: str, *inputs: Tensor) -> dict[str, Run]:
    """Return what the forward and the backward pass of a module take, with gradients of all inputs."""
    inputs = tuple(x.requires_grad_() for x in inputs)

    def forward() -> Tensor:
        with autocast_without_gpu(precision):
            y: Tensor = module(*inputs)
        return y

    y, run = _counted(forward)
    dy = torch.empty_like(y)
    _, backward = _counted(lambda: _run_backward(y, dy))
    return {"forward": run, "backward": backward}


@torch.no_grad()
def _run_backward(y: Tensor, dy: Tensor) -> None:
    """Run the backward pass of y node by node, as autograd does, whose engine would look for a GPU."""
    root: Any = y.grad_fn
    waits_for, found = Waiting[Any](), [root]
    for node in found:
        for following, _ in node.next_functions:
            if following is not None:
                if following not in waits_for:
                    found.append(following)
                waits_for[following] += 1
    gradients: dict[Any, dict[int, Tensor]] = {root: {y.output_nr: dy}}
    ready = [root]
    while ready:
        node = ready.pop()
        received = gradients.pop(node, {})
        if not node.next_functions:  # a leaf
            continue
        run = getattr(node, "apply", node)  # that of a Function in Python
        made = run(*(received.get(number) for number in range(len(node._input_metadata)))) if received else ()
        made = made if isinstance(made, tuple) else (made,)
        for (following, number), gradient in zip_longest(node.next_functions, made[: len(node.next_functions)]):
            if following is None:
                continue
            if gradient is not None:
                expected = following._input_metadata[number]
                gradient = gradient.sum_to_size(expected.shape).to(expected.dtype)
                others = gradients.setdefault(following, {})
                others[number] = others[number] + gradient if number in others else gradient
            waits_for[following] -= 1
            if not waits_for[following]:
                ready.append(following)


def _counted(compute: Callable[[], Any]) -> tuple[Any, Run]:
    with Counter() as counter, InsideOperators():
        result = compute()
    return result, counter.run


@contextmanager
def gpu_without_values() -> Iterator[None]:
    """Make tensors that have a GPU as device and no values."""
    with FakeTensorMode(), torch.device("cuda"):
        yield


@contextmanager
def autocast_without_gpu(precision: str, device: str = "cuda") -> Iterator[None]:
    """Switch autocast on as training does on a device; torch.autocast itself would look for a GPU."""
    if precision != "bf16":
        yield
        return
    torch.set_autocast_enabled(device, True)
    torch.set_autocast_dtype(device, torch.bfloat16)
    torch.autocast_increment_nesting()
    try:
        yield
    finally:
        torch.autocast_decrement_nesting()
        torch.clear_autocast_cache()
        torch.set_autocast_enabled(device, False)


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def _storages(tensors: list[Tensor]) -> set[int]:
    return {tensor.untyped_storage()._cdata for tensor in tensors}


def _bytes(tensor: Tensor) -> int:
    """Return the bytes of a tensor's numbers; those that are repeated, as in a broadcast or a window, count once."""
    sizes = (size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride)
    return min(math.prod(sizes) * tensor.element_size(), tensor.untyped_storage().nbytes())
