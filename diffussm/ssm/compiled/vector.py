"""Vectors of eight float32 inside numba: load, store, arithmetic, pointer offsets, an 8 x 8 transposition.

numba leaves vectorisation to LLVM, which does not vectorise the loops of a state-space layer; so vectors are explicit
here, as LLVM's own vector type. Memory is accessed by pointers, with C's arithmetic: numba's arrays carry seven numbers
each, and functions of many of them take minutes to compile. Nothing is bounds-checked. Sums of products may be fused,
and no other fast-math flag is set: NaN and infinity propagate.
"""

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, overload, register_model

from diffussm.ssm.compiled.plan import LANES

FUSED = ("contract",)  # a multiplication and an addition may become one instruction
FLOAT, INT = ir.FloatType(), ir.IntType(64)


class VectorType(types.Type):
    def __init__(self) -> None:
        super().__init__(name=f"float32x{LANES}")


VECTOR = VectorType()
FLOATS, DOUBLES = types.CPointer(types.float32), types.CPointer(types.float64)


@register_model(VectorType)
class VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any):
        super().__init__(manager, kind, ir.VectorType(FLOAT, LANES))


def load_at(builder: Any, pointer: Any, lanes: int = LANES) -> Any:
    return builder.load(builder.bitcast(pointer, ir.VectorType(FLOAT, lanes).as_pointer()), align=4)


def store_at(builder: Any, pointer: Any, value: Any) -> None:
    builder.store(value, builder.bitcast(pointer, value.type.as_pointer()), align=4)


def splat(builder: Any, scalar: Any, lanes: int = LANES) -> Any:
    """Return a vector with the scalar in every lane."""
    kind, index = ir.VectorType(FLOAT, lanes), ir.VectorType(ir.IntType(32), lanes)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, ir.IntType(32)(0))
    return builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), ir.Constant(index, [0] * lanes))


def _shuffle(builder: Any, a: Any, b: Any, order: list[int]) -> Any:
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), LANES), order))


@intrinsic
def load(typing: Any, pointer: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return load_at(builder, values[0])

    return VECTOR(FLOATS), generate


@intrinsic
def load_splat(typing: Any, pointer: Any) -> Any:
    """Load one number into every lane of a vector."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return splat(builder, builder.load(values[0]))

    return VECTOR(FLOATS), generate


@intrinsic
def constant(typing: Any, number: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return splat(builder, values[0])

    return VECTOR(types.float32), generate


@intrinsic
def store(typing: Any, pointer: Any, vector: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        store_at(builder, *values)
        return context.get_dummy_value()

    return types.void(FLOATS, VECTOR), generate


@intrinsic
def reversed_lanes(typing: Any, vector: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return _shuffle(builder, values[0], values[0], list(range(LANES))[::-1])

    return VECTOR(VECTOR), generate


def _arithmetic(operation: Callable[..., Any], instruction: str) -> None:
    @intrinsic
    def compute(typing: Any, a: Any, b: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            return getattr(builder, instruction)(*values, flags=FUSED)

        return VECTOR(VECTOR, VECTOR), generate

    @overload(operation)
    def vector_operation(a, b):  # numba compares its signature with that of the lambda
        if isinstance(a, VectorType) and isinstance(b, VectorType):
            return lambda a, b: compute(a, b)
        return None


_arithmetic(operator.add, "fadd")
_arithmetic(operator.iadd, "fadd")
_arithmetic(operator.sub, "fsub")
_arithmetic(operator.mul, "fmul")


@intrinsic
def _offset(typing: Any, pointer: Any, count: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.gep(values[0], [values[1]])

    return pointer(pointer, types.intp), generate


@overload(operator.add)
def pointer_and_count(a, b):
    """Offset a pointer by a number of elements, as in C."""
    if isinstance(a, types.CPointer) and isinstance(b, types.Integer):
        return lambda a, b: _offset(a, b)
    return None


@intrinsic
def transpose(typing: Any, source: Any, step: Any, target: Any, target_step: Any) -> Any:
    """Transpose an 8 x 8 block whose rows lie `step` numbers apart into one whose rows lie `target_step` apart."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        source, step, target, target_step = values

        def row(pointer: Any, step: Any, number: int) -> Any:
            return builder.gep(pointer, [builder.mul(INT(number), step)])

        rows = [load_at(builder, row(source, step, number)) for number in range(LANES)]
        for number, column in enumerate(_transposed(builder, rows)):
            store_at(builder, row(target, target_step, number), column)
        return context.get_dummy_value()

    return types.void(FLOATS, types.intp, FLOATS, types.intp), generate


def _transposed(builder: Any, rows: list[Any]) -> list[Any]:
    """Transpose by interleaving single elements of two rows, then pairs of elements, then halves."""

    def shuffled(a: Any, b: Any, first: list[int], second: list[int]) -> list[Any]:
        return [_shuffle(builder, a, b, order) for order in (first, second)]

    singles = [0, 8, 1, 9, 4, 12, 5, 13], [2, 10, 3, 11, 6, 14, 7, 15]
    pairs = [0, 1, 8, 9, 4, 5, 12, 13], [2, 3, 10, 11, 6, 7, 14, 15]
    halves = [0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15]
    one = [shuffled(rows[k], rows[k + 1], *singles) for k in (0, 2, 4, 6)]
    two = [shuffled(one[k][i], one[k + 1][i], *pairs) for k in (0, 2) for i in (0, 1)]
    four = [shuffled(low, high, *halves) for k in (0, 1) for low, high in zip(two[k], two[k + 2], strict=True)]
    return [column[half] for half in (0, 1) for column in four]


@intrinsic
def never_inlined(typing: Any) -> Any:
    """Mark the calling function as noinline: LLVM would inline large functions at every call, and take a minute to
    optimise all copies."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), generate
