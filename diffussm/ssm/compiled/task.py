"""A task as threads see it: sizes, and addresses of flat arrays.

Threads come from outside and know nothing of each other. Each draws a number, which names its scratch memory, then one
block of channels after the other until none is left, from counters that are read and raised in one step. A block is
computed by one thread from beginning to end, so results depend neither on how many threads there are nor on who takes
which block.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.extending import intrinsic

from diffussm.ssm.compiled import plan
from diffussm.ssm.compiled.vector import DOUBLES, FLOATS

SIZES = ("batch", "length", "width", "stored_pairs", "bidirectional")
PARAMETERS = ("log_dt", "log_decay", "frequency", "c", "skip")
ARRAYS = ("u", "y", *PARAMETERS, "of_u", "of_y", *(f"of_{name}" for name in PARAMETERS))
COUNTERS = ("threads_started", "blocks_taken")
FIELDS = (*SIZES, *plan.Cut._fields, *ARRAYS, *COUNTERS, *plan.SCRATCH, "scratch_bytes")
TASK = np.dtype([(name, np.int64) for name in FIELDS])


@intrinsic
def floats(typing: Any, address: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.inttoptr(values[0], ir.FloatType().as_pointer())

    return FLOATS(types.int64), generate


@intrinsic
def doubles(typing: Any, address: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.inttoptr(values[0], ir.DoubleType().as_pointer())

    return DOUBLES(types.int64), generate


@intrinsic
def draw(typing: Any, address: Any) -> Any:
    """What the counter at `address` was before this call raised it by one, which no other thread then gets."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        counter = builder.inttoptr(values[0], ir.IntType(64).as_pointer())
        return builder.atomic_rmw("add", counter, ir.IntType(64)(1), "monotonic")

    return types.int64(types.int64), generate


@intrinsic
def _bytes(typing: Any, address: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.inttoptr(values[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.int64), generate


@njit(nogil=True, error_model="numpy")
def task_at(address):
    return carray(_bytes(address), (1,), TASK)[0]
