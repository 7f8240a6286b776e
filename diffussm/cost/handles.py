"""What an operator of a traced graph costs in multiply-adds: fvcore's handles where they are right, ours elsewhere.

fvcore by itself counts nothing for attention, FFTs and custom Functions, rounds einsums, and counts a complex product
as a real one. Here a complex product is 4 MACs, one of a complex and a real number 2, a complex quotient 8; a complex
FFT of n points 2.5 n log2 n, one of real numbers half. Products of real numbers element by element, sums, norms and
activations are free, as in the published counts of DiT.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from diffussm.cost.executed import chunked

Handle = Callable[[list[Any], list[Any]], Counter[str]]

FREE = """
    abs add add_ addcdiv alias amax amin argmax argmin as_strided bernoulli bitwise_and bitwise_or cat clone complex
    conj conj_physical cos cumsum detach elu embedding empty_like erf exp exp_ expm1 fill_ flip floor fmod gelu
    group_norm hardtanh imag index_add index_select item layer_norm leaky_relu lerp lift_fresh linalg_vector_norm
    log log1p log_softmax logical_and logical_not logical_or logsumexp lt le maximum mean meshgrid min minimum
    movedim ne neg neg_ norm numpy_T one_ pad pow rand randn real reciprocal relu repeat repeat_interleave
    resolve_conj resolve_neg rms_norm rsqrt rsub scatter scatter_add sigmoid sigmoid_ sign silu silu_ sin softmax
    softplus sqrt square std sub sub_ sum swapaxes tanh tensor_split tril triu triu_ unflatten unfold uniform
    unsafe_chunk unsafe_split var view_as view_as_complex view_as_real where zero_ _conj _softmax _log_softmax
    _unsafe_view
"""


def handles(products: Mapping[str, Callable[..., Any]]) -> dict[str, Handle]:
    """Operator name in the graph -> handle, for fvcore's `set_op_handle`; `products` are fvcore's of real numbers."""
    own: dict[str, Handle] = {f"aten::{name}": free for name in FREE.split()}
    own |= {f"aten::{name}": elementwise for name in ("mul", "mul_", "addcmul", "addcmul_")}
    own |= {f"aten::{name}": quotient for name in ("div", "div_", "true_divide")}
    own |= {name: _of_complex_too(name.removeprefix("aten::"), handle) for name, handle in products.items()}
    own |= {
        "aten::baddbmm": batched_product,
        "aten::scaled_dot_product_attention": attention,
        "aten::einsum": einsum,
        "aten::fft_fft": complex_fft,
        "aten::fft_ifft": complex_fft,
        "aten::fft_rfft": fft_of_reals,
        "aten::fft_irfft": fft_to_reals,
        "prim::PythonOp._Chunked": chunked_s4d,
    }
    return own


def free(_: list[Any], __: list[Any]) -> Counter[str]:
    return Counter()


def batched_product(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """baddbmm: (n, a, b) x (n, b, c) is n a b c, times 4 for complex ones."""
    return Counter(baddbmm=math.prod(shape(outputs[0])) * shape(inputs[1])[-1] * (4 if is_complex(outputs[0]) else 1))


def _of_complex_too(name: str, handle: Callable[..., Any]) -> Handle:
    def count(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
        return Counter({name: handle(inputs, outputs) * (4 if is_complex(outputs[0]) else 1)})

    return count


def attention(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """softmax(q k^T) v, all heads: (..., L, E) x (..., S, E), then x (..., S, V)."""
    *batch, queries, size = shape(inputs[0])
    keys, values = shape(inputs[1])[-2], shape(outputs[0])[-1]
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
    """Exact, from left to right: a pair of operands costs the product of all their letters' sizes."""
    terms, _, result = inputs[0].toIValue().replace(" ", "").partition("->")
    operands = list(inputs[1].node().inputs())
    letters = terms.split(",")
    sizes = {
        name: n
        for term, value in zip(letters, operands, strict=True)
        for name, n in zip(term, shape(value), strict=True)
    }
    macs, left, left_complex = 0, letters[0], is_complex(operands[0])
    for i, (right, value) in enumerate(zip(letters[1:], operands[1:], strict=True), start=1):
        met = set(left) | set(right)
        macs += math.prod(sizes[name] for name in met) * {0: 1, 1: 2, 2: 4}[left_complex + is_complex(value)]
        later = set(result).union(*letters[i + 1 :])
        left, left_complex = "".join(met & later), left_complex or is_complex(value)
    return Counter(einsum=macs)


def complex_fft(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    return _fft(inputs, outputs, lambda size: size, 1.0)


def fft_of_reals(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """n real points; where n is computed in the graph it is taken for even."""
    known = inputs[1].toIValue() if inputs[1].node().kind() == "prim::Constant" else None
    return _fft(inputs, outputs, lambda size: known or 2 * (size - 1), 0.5)


def fft_to_reals(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    return _fft(inputs, outputs, lambda size: size, 0.5)


def chunked_s4d(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """Of diffussm.ssm.chunked, from its shapes: u (B, L, D), the exponents (2, D, N/2), and the chunk's length."""
    batch, length, width = shape(inputs[0])
    *_, chunk = outputs[0].node().scalar_args()
    one = chunked(width, 2 * shape(inputs[1])[-1], length, chunk)
    return Counter(chunked_s4d=batch * one.per_image + one.fixed)


def _fft(inputs: list[Any], outputs: list[Any], points: Callable[[int], int], share: float) -> Counter[str]:
    """Of so many points for an output of that size; share 1/2 for real numbers."""
    sizes = shape(outputs[0])
    n = points(sizes[inputs[2].toIValue()])
    transforms = math.prod(sizes) // sizes[inputs[2].toIValue()]
    return Counter(fft=round(transforms * share * 2.5 * n * math.log2(n)))


def shape(value: Any) -> list[int]:
    return value.type().sizes()


def is_complex(value: Any) -> bool:
    return "Complex" in str(value.type().scalarType())
