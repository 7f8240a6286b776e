"""S4D's backends as operators of torch, `diffussm::s4d_<name>` and `diffussm::s4d_<name>_backward`.

A tracer, such as that of torch.compile, sees an operator as one node with the name of its backend. What the backward
pass needs are outputs of the operator or inputs; autograd keeps them as saved tensors, which hooks and recomputation
(torch.utils.checkpoint) see.

The operators are defined in a `torch.library.Library`, because those of `torch.library.custom_op` import the compiler
at their first call, which takes seconds.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from diffussm.ssm.parameters import S4DParameters

Convolve = Callable[[S4DParameters, Tensor, bool], Tensor]
Gradients = tuple[Tensor, ...]  # with respect to u and each parameter

KERNELS: dict[torch._ops.OpOverload, Callable[..., Any]] = {}  # operator -> what it runs

_PARAMETERS = ", ".join(f"Tensor {name}" for name in S4DParameters._fields)
_COUNT = len(S4DParameters._fields)


def _new_library() -> Any:
    """Return a library without operators. Those of an earlier import in this process, also from another copy of the
    package, are removed: a name can be defined once."""
    defined: Any = torch.ops.diffussm
    earlier = getattr(defined, "library", None)
    if earlier is not None:
        earlier._destroy()
    defined.library = torch.library.Library("diffussm", "DEF")
    return defined.library


_library = _new_library()


class Kernels(NamedTuple):
    """The two passes of a backend.

    `forward(p, u, bidirectional)` returns y (B, L, 2D) and the tensors that it makes for the backward pass; `empty`
    returns the same without values. `backward(p, kept, dy, bidirectional)` gets u, if the backend needs it, and those
    tensors as `kept`. None of the tensors that are returned share memory with each other or with an input. Conjugates
    have to be computed (`conj_physical`): where a `TorchDispatchMode` is active, nothing resolves those that are only
    marked.
    """

    forward: Callable[[S4DParameters, Tensor, bool], tuple[Tensor, list[Tensor]]]
    backward: Callable[[S4DParameters, list[Tensor], Tensor, bool], Gradients]
    empty: Callable[[S4DParameters, Tensor, bool], tuple[Tensor, list[Tensor]]]
    needs_input: bool  # whether the backward pass needs u
    keeps: bool = True  # whether the forward pass makes tensors for the backward pass


def operator(name: str, kernels: Kernels) -> Convolve:
    """Define the operators of a backend; return a function (parameters, u, bidirectional) -> y that calls them."""

    def returned(y: Tensor, kept: list[Tensor]) -> Any:
        return (y, kept) if kernels.keeps else y

    def first(output: Any) -> Any:
        return output[0] if kernels.keeps else output

    def forward(u: Tensor, *rest: Any) -> Any:
        *parameters, bidirectional = rest
        return returned(*kernels.forward(S4DParameters(*parameters), u, bidirectional))

    def fake_forward(u: Tensor, *rest: Any) -> Any:
        *parameters, bidirectional = rest
        return returned(*kernels.empty(S4DParameters(*parameters), u, bidirectional))

    def backward(dy: Tensor, kept: list[Tensor], *rest: Any) -> Gradients:
        *parameters, bidirectional = rest
        return kernels.backward(S4DParameters(*parameters), kept, dy, bidirectional)

    def fake_backward(dy: Tensor, _: list[Tensor], *rest: Any) -> Gradients:
        batch, length, width = dy.shape
        return dy.new_empty(batch, length, width // 2), *map(torch.empty_like, rest[:_COUNT])

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        if kernels.keeps:
            ctx.mark_non_differentiable(*output[1])
        save(ctx, inputs, output)

    def save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        u, *parameters, ctx.bidirectional = inputs
        made = output[1] if kernels.keeps else []
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*parameters, *([u] if kernels.needs_input else []), *made)

    @once_differentiable
    def formula(ctx: Any, dy: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
        if dy is None:
            return (None,) * (2 + _COUNT)
        saved = ctx.saved_tensors
        parameters, kept = saved[:_COUNT], list(saved[_COUNT:])
        return *backward_operator(dy, kept, *parameters, ctx.bidirectional), None

    outputs = "(Tensor y, Tensor[] kept)" if kernels.keeps else "Tensor"
    gradients = ", ".join(["Tensor"] * (1 + _COUNT))
    forward_operator = _define(f"s4d_{name}", f"(Tensor u, {_PARAMETERS}, bool bidirectional) -> {outputs}", forward)
    backward_operator = _define(
        f"s4d_{name}_backward",
        f"(Tensor dy, Tensor[] kept, {_PARAMETERS}, bool bidirectional) -> ({gradients})",
        backward,
    )
    torch.library.register_fake(f"diffussm::s4d_{name}", fake_forward, lib=_library)
    torch.library.register_fake(f"diffussm::s4d_{name}_backward", fake_backward, lib=_library)
    torch.library.register_autograd(f"diffussm::s4d_{name}", formula, setup_context=setup_context, lib=_library)

    class Eager(torch.autograd.Function):
        """The formula again: outside of a graph autograd reaches it at a third of the cost of a registered one, of
        0.06 ms a call."""

        @staticmethod
        def forward(ctx: Any, *inputs: Any) -> Tensor:
            output = forward_operator(*inputs)
            save(ctx, inputs, output)
            return first(output)

        backward = staticmethod(formula)  # type: ignore[assignment]

    def convolve(p: S4DParameters, u: Tensor, bidirectional: bool) -> Tensor:
        tracing = torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined]
        if tracing or not torch.is_grad_enabled():
            return first(forward_operator(u, *p, bidirectional))
        return Eager.apply(u, *p, bidirectional)

    return convolve


def _define(name: str, schema: str, kernel: Callable[..., Any]) -> torch._ops.OpOverload:
    _library.define(name + schema, tags=(torch.Tag.pt2_compliant_tag,))
    defined: torch._ops.OpOverload = getattr(torch.ops.diffussm, name).default
    KERNELS[defined] = kernel
    _library.impl(name, kernel, "CompositeExplicitAutograd")
    return defined
