"""Handles for fvcore that give the multiply-adds of the operators of a traced graph; convolution uses fvcore's own.

fvcore itself counts nothing for attention, FFTs and custom Functions, rounds einsums, and counts a complex product as a
real one. Here a complex product is 4 MACs, a product of a complex and a real number 2, a complex quotient 8, a complex
FFT of n points 2.5 n log2 n and a real one half of that. Element-wise products of real numbers, sums, norms and
activations are free, as in the published counts of DiT; so a matrix product that is written as an element-wise product
and a sum counts nothing.
"""

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

from diffussm.cost.executed import s4d

Handle = Callable[[list[Any], list[Any]], Counter[str]]

FREE = """
    _conj _log_softmax _softmax _unsafe_view abs adaptive_avg_pool1d adaptive_avg_pool2d add add_ alias amax amin
    argmax argmin argsort as_strided atan2 avg_pool1d avg_pool2d batch_norm bernoulli bitwise_and bitwise_or
    bitwise_xor broadcast_to cat ceil celu clone complex conj conj_physical cos cummax cumsum detach diff elu
    embedding empty_like erf exp exp_ expand_as expm1 eye fill_ flip floor fmod gelu group_norm hardsigmoid
    hardswish hardtanh imag index_add index_select instance_norm item layer_norm le leaky_relu lift_fresh
    linalg_vector_norm linspace log log1p log_softmax logcumsumexp logical_and logical_not logical_or logical_xor
    logsumexp lt max_pool2d maximum mean meshgrid min minimum mish movedim native_batch_norm ne neg neg_ norm
    numpy_T one_ one_hot pad prelu rand randn real relu relu6 repeat repeat_interleave resolve_conj resolve_neg
    rms_norm rot90 round rsqrt rsub scatter scatter_add selu sigmoid sigmoid_ sign silu silu_ sin softmax softplus
    sort sqrt std sub sub_ sum swapaxes tanh tensor_split tile topk tril triu triu_ trunc unflatten unfold uniform
    unsafe_chunk unsafe_split var view_as view_as_complex view_as_real where zero_
"""

PRODUCTS = {  # operator -> index of the operand whose last axis is summed over
    **dict.fromkeys(("mm", "bmm", "matmul", "mv", "dot", "vdot", "inner", "linear"), 0),
    **dict.fromkeys(("addmm", "addmv", "baddbmm", "addmm_", "addmv_", "baddbmm_"), 1),
}
COMPLEX = {
    "square": 4,
    "pow": 4,
    "lerp": 2,
    "reciprocal": 8,
    "addcdiv": 12,
    "outer": 4,
}  # MACs per complex number; none for real ones


def handles(convolution: Callable[..., Any]) -> dict[str, Handle]:
    """Return operator name -> handle, for fvcore's `set_op_handle`; `convolution` is fvcore's own handle."""
    own: dict[str, Handle] = {f"aten::{name}": free for name in FREE.split()}
    own |= {f"aten::{name}": elementwise for name in ("mul", "mul_", "addcmul", "addcmul_")}
    own |= {f"aten::{name}": quotient for name in ("div", "div_", "true_divide")}
    own |= {f"aten::{name}": _if_complex(macs) for name, macs in COMPLEX.items()}
    own |= {f"aten::{name}": _product(operand) for name, operand in PRODUCTS.items()}
    own |= {
        "aten::addbmm": sum_of_products,
        "aten::_convolution": _with_complex(convolution),
        "aten::scaled_dot_product_attention": attention,
        "aten::einsum": einsum,
        "aten::fft_fft": complex_fft,
        "aten::fft_ifft": complex_fft,
        "aten::fft_rfft": real_fft,
        "aten::fft_irfft": inverse_real_fft,
        **{f"diffussm::s4d_{backend}": _s4d(backend) for backend in ("chunked", "compiled")},
    }
    return own


def free(_: list[Any], __: list[Any]) -> Counter[str]:
    """Count nothing."""
    return Counter()


def _product(operand: int) -> Handle:
    """Return a handle for results whose numbers are sums over the last axis of the operand with this index."""

    def count(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
        name = outputs[0].node().kind().removeprefix("aten::")
        macs_per_number = shape(inputs[operand])[-1] * (4 if is_complex(outputs[0]) else 1)
        return Counter({name: math.prod(shape(outputs[0])) * macs_per_number})

    return count


def sum_of_products(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """Count addbmm, which sums the products of a batch."""
    batch, _, inner = shape(inputs[1])
    return Counter(addbmm=batch * math.prod(shape(outputs[0])) * inner * (4 if is_complex(outputs[0]) else 1))


def _with_complex(handle: Callable[..., Any]) -> Handle:
    """Return the handle with complex results counted four times."""

    def count(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
        times = 4 if is_complex(outputs[0]) else 1
        return Counter({name: times * macs for name, macs in handle(inputs, outputs).items()})

    return count


def _if_complex(macs: int) -> Handle:
    """Return a handle that counts `macs` for each complex number of the result and none for a real one."""

    def count(_: list[Any], outputs: list[Any]) -> Counter[str]:
        return Counter(complex_products=macs * math.prod(shape(outputs[0]))) if is_complex(outputs[0]) else Counter()

    return count


def attention(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """Count softmax(q k^T) v over all heads: (..., L, E) x (..., S, E), then x (..., S, V)."""
    *batch, queries, values = shape(outputs[0])  # those of the operands may be broadcast
    size, keys = shape(inputs[0])[-1], shape(inputs[1])[-2]
    return Counter(attention=math.prod(batch) * queries * keys * (size + values))


def elementwise(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """Count mul, and addcmul, whose factors are its last two tensors."""
    factors = [is_complex(value) for value in inputs if value.type().kind() == "TensorType"][-2:]
    macs = {0: 0, 1: 2, 2: 4}[sum(factors)]
    return Counter(complex_products=macs * math.prod(shape(outputs[0]))) if macs else Counter()


def quotient(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """Count a division; a complex number divided by a real one is a product with the inverse."""
    dividend, divisor = (value.type().kind() == "TensorType" and is_complex(value) for value in inputs[:2])
    macs = 8 if divisor else 2 if dividend else 0
    return Counter(complex_products=macs * math.prod(shape(outputs[0]))) if macs else Counter()


def einsum(inputs: list[Any], _: list[Any]) -> Counter[str]:
    """Count an einsum exactly, from left to right: a pair of operands costs the product of the sizes of all its indices
    if it sums over an index or is complex; an index of a single operand is summed first."""
    operands = list(inputs[1].node().inputs())
    terms, result = _without_ellipsis(inputs[0].toIValue(), [len(shape(value)) for value in operands])
    sizes: dict[str, int] = {}
    for term, value in zip(terms, operands, strict=True):
        for index, n in zip(term, shape(value), strict=True):
            sizes[index] = max(n, sizes.get(index, 1))  # a size of 1 is broadcast
    macs, left, left_complex = 0, set(terms[0]), is_complex(operands[0])
    for i, (right, value) in enumerate(zip(terms[1:], operands[1:], strict=True), start=1):
        later = set(result).union(*terms[i + 1 :])
        loops = {index for index in left | set(right) if index in later or (index in left and index in right)}
        macs_per_product = {0: 1, 1: 2, 2: 4}[left_complex + is_complex(value)]
        if loops - later or macs_per_product > 1:
            macs += math.prod(sizes[index] for index in loops) * macs_per_product
        left, left_complex = loops & later, left_complex or is_complex(value)
    return Counter(einsum=macs)


def _without_ellipsis(equation: str, dimensions: list[int]) -> tuple[list[str], str]:
    """Return the indices of the operands and of the result, with unused letters in place of an ellipsis."""
    operands, arrow, result = equation.replace(" ", "").partition("->")
    terms = operands.split(",")
    if not arrow:
        indices = operands.replace(",", "").replace(".", "")
        result = "..." * ("." in operands) + "".join(sorted(i for i in set(indices) if indices.count(i) == 1))
    unused = [letter for letter in map(chr, range(0x3B1, 0x3CA)) if letter not in equation]  # Greek
    counts = [n - len(term.replace(".", "")) for term, n in zip(terms, dimensions, strict=True)]
    longest = max(counts)
    dots = unused[:longest]
    out = ["".join(dots[longest - n :]).join(term.split("...")) for term, n in zip(terms, counts, strict=True)]
    return out, "".join(dots).join(result.split("..."))


def complex_fft(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """Count fft and ifft, of complex or real input."""
    return _fft(inputs, outputs, shape(outputs[0])[_axis(inputs)], 1.0 if is_complex(inputs[0]) else 0.5)


def real_fft(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """Count rfft of n real points, by default all of the axis; if n is computed in the graph, it is assumed even."""
    if inputs[1].node().kind() == "prim::Constant":
        points = inputs[1].toIValue() or shape(inputs[0])[_axis(inputs)]
    else:
        points = 2 * (shape(outputs[0])[_axis(inputs)] - 1)
    return _fft(inputs, outputs, points, 0.5)


def inverse_real_fft(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """Count irfft."""
    return _fft(inputs, outputs, shape(outputs[0])[_axis(inputs)], 0.5)


def _s4d(backend: str) -> Handle:
    """Return a handle for the operator of a backend, which counts from the shapes of u (B, L, D) and of the decay rates
    (2, D, N/2). Discretisation, of complex numbers element by element, is part of it."""

    def count(inputs: list[Any], _: list[Any]) -> Counter[str]:
        batch, length, width = shape(inputs[0])
        one = s4d(backend, width, 2 * shape(inputs[2])[-1], length)
        return Counter({f"{backend}_s4d": batch * one.per_image + one.fixed})

    return count


def _axis(inputs: list[Any]) -> int:
    return inputs[2].toIValue()


def _fft(inputs: list[Any], outputs: list[Any], points: int, share: float) -> Counter[str]:
    """Count FFTs along one axis; `share` is 1/2 for real numbers."""
    sizes = shape(outputs[0])
    transforms = math.prod(sizes) // sizes[_axis(inputs)]
    return Counter(fft=round(transforms * share * 2.5 * points * math.log2(points)))


def shape(value: Any) -> list[int]:
    """Return the shape of a value of the graph."""
    return value.type().sizes()


def is_complex(value: Any) -> bool:
    """Return whether a value of the graph is a complex tensor."""
    return "Complex" in str(value.type().scalarType())
