"""Small matrix products that accumulate in registers.

A tile is HEIGHT rows by COLUMNS columns of a product, accumulated over the whole inner dimension in as many vector
registers; every step broadcasts one element of each row of the left factor against one row of the right. Strides are
arbitrary: a step of -1 through the right factor makes it the Toeplitz matrix of the numbers that it reads.
"""

from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from diffussm.ssm.compiled.plan import COLUMNS
from diffussm.ssm.compiled.vector import FLOAT, FLOATS, FUSED, INT, load_at, never_inlined, splat, store_at

EVEN = 2  # rows come in pairs: those that remain after tiles of full height are done two at a time
WIDE = bool(llvm.get_host_cpu_features().get("avx512f"))  # registers of 16 float32, 32 of them; else 16 of 8
HEIGHT, WIDTH = (8, 16) if WIDE else (6, 8)


def _tile(rows: int, lanes: int) -> Any:
    """Return an intrinsic for a tile of `rows`: out[m, n] = add out[m, n] + sum_k a[m, k] b[k, n], where add is 0 or 1
    and `out` is not read if it is 0."""
    across = range(0, COLUMNS, lanes)
    kind = ir.VectorType(FLOAT, lanes)

    @intrinsic
    def tile(
        typing: Any, add: Any, count: Any, a: Any, a_row: Any, a_step: Any, b: Any, b_step: Any, out: Any, out_row: Any
    ) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            add, count, a, a_row, a_step, b, b_step, out, out_row = values
            places = {
                (m, n): builder.gep(out, [builder.add(builder.mul(INT(m), out_row), INT(n))])
                for m in range(rows)
                for n in across
            }
            sums = {place: cgutils.alloca_once(builder, kind) for place in places}
            for total in sums.values():
                builder.store(ir.Constant(kind, [0.0] * lanes), total)
            with cgutils.for_range(builder, count) as loop:
                left = builder.gep(a, [builder.mul(loop.index, a_step)])
                right = builder.gep(b, [builder.mul(loop.index, b_step)])
                row = {n: load_at(builder, builder.gep(right, [INT(n)]), lanes) for n in across}
                for m in range(rows):
                    element = builder.load(builder.gep(left, [builder.mul(INT(m), a_row)]))
                    everywhere = splat(builder, element, lanes)
                    for n in across:
                        product = builder.fmul(everywhere, row[n], flags=FUSED)
                        builder.store(builder.fadd(builder.load(sums[m, n]), product, flags=FUSED), sums[m, n])
            with builder.if_then(builder.icmp_signed("!=", add, add.type(0))):
                for place, total in sums.items():
                    before = load_at(builder, places[place], lanes)
                    builder.store(builder.fadd(builder.load(total), before), total)
            for place, total in sums.items():
                store_at(builder, places[place], builder.load(total))
            return context.get_dummy_value()

        i = types.intp
        return types.void(i, i, FLOATS, i, i, FLOATS, i, FLOATS, i), generate

    return tile


_full_tile, _pair_tile = _tile(HEIGHT, WIDTH), _tile(EVEN, WIDTH)


@njit(nogil=True, error_model="numpy")
def product(rows, columns, count, a, a_row, a_step, b, b_step, out, out_row, add):
    """Set out (rows, columns) = a (rows, count) @ b (count, columns), or add it to `out` if `add`; the number of rows
    is even and that of columns a multiple of a tile's."""
    never_inlined()
    added = 1 if add else 0
    for n in range(0, columns, COLUMNS):
        m = 0
        while m + HEIGHT <= rows:
            _full_tile(added, count, a + m * a_row, a_row, a_step, b + n, b_step, out + (m * out_row + n), out_row)
            m += HEIGHT
        while m < rows:
            _pair_tile(added, count, a + m * a_row, a_row, a_step, b + n, b_step, out + (m * out_row + n), out_row)
            m += EVEN
