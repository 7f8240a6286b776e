"""What an operator of a traced graph costs in multiply-adds: handles for fvcore, all but its convolution's ours.

fvcore by itself counts nothing for attention, FFTs and custom Functions, rounds einsums, and counts a complex product
as a real one. Here a complex product is 4 MACs, one of a complex and a real number 2, a complex quotient 8; a complex
FFT of n points 2.5 n log2 n, one of real numbers half. Products of real numbers element by element, sums, norms and
activations are free, as in the published counts of DiT: a product of matrices written as such, and summed by hand,
counts nothing.
"""

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

from diffussm.cost.executed import chunked

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

PRODUCTS = {  # sums over the last axis of the operand in this place
    **dict.fromkeys(("mm", "bmm", "matmul", "mv", "dot", "vdot", "inner", "linear"), 0),
    **dict.fromkeys(("addmm", "addmv", "baddbmm", "addmm_", "addmv_", "baddbmm_"), 1),
}
COMPLEX = {"square": 4, "pow": 4, "lerp": 2, "reciprocal": 8, "addcdiv": 12, "outer": 4}  # each, of complex numbers


def handles(convolution: Callable[..., Any]) -> dict[str, Handle]:
    """Operator name in the graph -> handle, for fvcore's `set_op_handle`; `convolution` is fvcore's own."""
    own: dict[str, Handle] = {f"aten::{name}": free for name in FREE.split()}
    own |= {f"aten::{name}": elementwise for name in ("mul", "mul_", "addcmul", "addcmul_")}
    own |= {f"aten::{name}": quotient for name in ("div", "div_", "true_divide")}
    own |= {f"aten::{name}": _if_complex(macs) for name, macs in COMPLEX.items()}
    own |= {f"aten::{name}": _product(place) for name, place in PRODUCTS.items()}
    own |= {
        "aten::addbmm": sum_of_products,
        "aten::_convolution": _of_complex_too(convolution),
        "aten::scaled_dot_product_attention": attention,
        "aten::einsum": einsum,
        "aten::fft_fft": complex_fft,
        "aten::fft_ifft": complex_fft,
        "aten::fft_rfft": fft_of_reals,
        "aten::fft_irfft": fft_to_reals,
        "prim::PythonOp.ChunkedConvolution": chunked_s4d,
    }
    return own


def free(_: list[Any], __: list[Any]) -> Counter[str]:
    return Counter()


def _product(place: int) -> Handle:
    """Every number of the result is a sum over the last axis of the operand in that place."""

    def count(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
        name = outputs[0].node().kind().removeprefix("aten::")
        each = shape(inputs[place])[-1] * (4 if is_complex(outputs[0]) else 1)
        return Counter({name: math.prod(shape(outputs[0])) * each})

    return count


def sum_of_products(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """addbmm: the products of a batch, added up."""
    batch, _, inner = shape(inputs[1])
    return Counter(addbmm=batch * math.prod(shape(outputs[0])) * inner * (4 if is_complex(outputs[0]) else 1))


def _of_complex_too(handle: Callable[..., Any]) -> Handle:
    def count(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
        times = 4 if is_complex(outputs[0]) else 1
        return Counter({name: times * macs for name, macs in handle(inputs, outputs).items()})

    return count


def _if_complex(macs: int) -> Handle:
    """So many for each complex number, none for a real one."""

    def count(_: list[Any], outputs: list[Any]) -> Counter[str]:
        return Counter(complex_products=macs * math.prod(shape(outputs[0]))) if is_complex(outputs[0]) else Counter()

    return count


def attention(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """softmax(q k^T) v, all heads: (..., L, E) x (..., S, E), then x (..., S, V)."""
    *batch, queries, values = shape(outputs[0])  # the operands' own may be broadcast
    size, keys = shape(inputs[0])[-1], shape(inputs[1])[-2]
    return Counter(attention=math.prod(batch) * queries * keys * (size + values))


def elementwise(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """mul, and addcmul's product, whose factors are its last two tensors."""
    factors = [is_complex(value) for value in inputs if value.type().kind() == "TensorType"][-2:]
    each = {0: 0, 1: 2, 2: 4}[sum(factors)]
    return Counter(complex_products=each * math.prod(shape(outputs[0]))) if each else Counter()


def quotient(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """A complex number divided by a real one is a product with that one's inverse."""
    dividend, divisor = (value.type().kind() == "TensorType" and is_complex(value) for value in inputs[:2])
    each = 8 if divisor else 2 if dividend else 0
    return Counter(complex_products=each * math.prod(shape(outputs[0]))) if each else Counter()


def einsum(inputs: list[Any], _: list[Any]) -> Counter[str]:
    """Exact, from left to right: a pair of operands costs the product of all their letters' sizes, where either sums
    over a letter or is complex; a letter of one operand alone is summed first."""
    operands = list(inputs[1].node().inputs())
    letters, result = _written_out(inputs[0].toIValue(), [len(shape(value)) for value in operands])
    sizes: dict[str, int] = {}
    for term, value in zip(letters, operands, strict=True):
        for name, n in zip(term, shape(value), strict=True):
            sizes[name] = max(n, sizes.get(name, 1))  # a size of 1 is broadcast
    macs, left, left_complex = 0, set(letters[0]), is_complex(operands[0])
    for i, (right, value) in enumerate(zip(letters[1:], operands[1:], strict=True), start=1):
        later = set(result).union(*letters[i + 1 :])
        met = {name for name in left | set(right) if name in later or (name in left and name in right)}
        each = {0: 1, 1: 2, 2: 4}[left_complex + is_complex(value)]
        if met - later or each > 1:
            macs += math.prod(sizes[name] for name in met) * each
        left, left_complex = met & later, left_complex or is_complex(value)
    return Counter(einsum=macs)


def _written_out(equation: str, dimensions: list[int]) -> tuple[list[str], str]:
    """The operands' letters and the result's, with letters of their own for an ellipsis."""
    terms, arrow, result = equation.replace(" ", "").partition("->")
    letters = terms.split(",")
    if not arrow:
        every = terms.replace(",", "").replace(".", "")
        result = "..." * ("." in terms) + "".join(sorted(name for name in set(every) if every.count(name) == 1))
    spare = [name for name in map(chr, range(0x3B1, 0x3CA)) if name not in equation]  # Greek
    counts = [n - len(term.replace(".", "")) for term, n in zip(letters, dimensions, strict=True)]
    longest = max(counts)
    dots = spare[:longest]
    out = ["".join(dots[longest - n :]).join(term.split("...")) for term, n in zip(letters, counts, strict=True)]
    return out, "".join(dots).join(result.split("..."))


def complex_fft(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    return _fft(inputs, outputs, shape(outputs[0])[_axis(inputs)], 1.0 if is_complex(inputs[0]) else 0.5)


def fft_of_reals(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """n real points, by default all there are; where n is computed in the graph it is taken for even."""
    if inputs[1].node().kind() == "prim::Constant":
        points = inputs[1].toIValue() or shape(inputs[0])[_axis(inputs)]
    else:
        points = 2 * (shape(outputs[0])[_axis(inputs)] - 1)
    return _fft(inputs, outputs, points, 0.5)


def fft_to_reals(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    return _fft(inputs, outputs, shape(outputs[0])[_axis(inputs)], 0.5)


def chunked_s4d(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """Of diffussm.ssm.chunked, from its shapes: u (B, L, D), the exponents (2, D, N/2), and the chunk's length."""
    batch, length, width = shape(inputs[0])
    *_, chunk = outputs[0].node().scalar_args()
    one = chunked(width, 2 * shape(inputs[1])[-1], length, chunk)
    return Counter(chunked_s4d=batch * one.per_image + one.fixed)


def _axis(inputs: list[Any]) -> int:
    return inputs[2].toIValue()


def _fft(inputs: list[Any], outputs: list[Any], points: int, share: float) -> Counter[str]:
    """Along one axis; share 1/2 for real numbers."""
    sizes = shape(outputs[0])
    transforms = math.prod(sizes) // sizes[_axis(inputs)]
    return Counter(fft=round(transforms * share * 2.5 * points * math.log2(points)))


def shape(value: Any) -> list[int]:
    return value.type().sizes()


def is_complex(value: Any) -> bool:
    return "Complex" in str(value.type().scalarType())
