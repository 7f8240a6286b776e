"""The arguments of a kernel: sizes, and addresses of flat arrays.

Threads are not created here and do not communicate. Each takes a number from an atomic counter, which selects its
scratch memory, and then blocks of channels from another one until none remain. One thread computes a block from
beginning to end, so results depend neither on the number of threads nor on which thread takes which block.
"""

from functools import lru_cache
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from diffussm.ssm.compiled import plan
from diffussm.ssm.compiled.vector import DOUBLES, FLOATS

SIZES = ("batch", "length", "width", "stored_pairs", "bidirectional")
PARAMETERS = ("log_dt", "log_decay", "frequency", "c", "skip")
ARRAYS = ("u", "y", *PARAMETERS, "d_u", "d_y", *(f"d_{name}" for name in PARAMETERS))
COUNTERS = ("threads_started", "blocks_taken")
FIELDS = (*SIZES, *plan.BlockSizes._fields, *ARRAYS, *COUNTERS, *plan.SCRATCH, "scratch_bytes")
KERNEL_ARGUMENTS = np.dtype([(name, np.int64) for name in FIELDS])
_FIRST_ARRAY, _FIRST_COUNTER, _FIRST_SCRATCH = (FIELDS.index(names[0]) for names in (ARRAYS, COUNTERS, plan.SCRATCH))


class Call(NamedTuple):
    """What calls with the same sizes have in common."""

    numbers: NDArray[np.int64]  # the value of each field, of a scratch array its offset; then the counters themselves
    scratch: int  # numbers in float32 that a thread needs
    blocks: int  # of channels


@lru_cache(maxsize=256)
def call(name: str, batch: int, length: int, width: int, pairs: int, bidirectional: bool, threads: int) -> Call:
    """Return what calls of the `forward` or `backward` pass with these sizes have in common."""
    block_sizes = plan.block_sizes(batch, length, width, pairs, threads)
    counts = plan.scratch(block_sizes, backward=name == "backward")
    total = sum(counts.values())
    sizes = dict(zip(SIZES, (batch, length, width, pairs, bidirectional), strict=True))
    offsets = {array: 4 * start for array, start in zip(counts, accumulate(counts.values(), initial=0), strict=False)}
    values = {**sizes, **block_sizes._asdict(), **offsets, "scratch_bytes": 4 * total}
    numbers = np.array([values.get(field, 0) for field in FIELDS] + [0] * len(COUNTERS), np.int64)
    return Call(numbers, total, -(-width // block_sizes.channels))


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
def fetch_add(typing: Any, address: Any) -> Any:
    """Increment the counter at `address` atomically; return its value before."""

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
def arguments_at(address):
    return carray(_bytes(address), (1,), KERNEL_ARGUMENTS)[0]


def fill(numbers: NDArray[np.int64], arrays: list[int], scratch: int) -> None:
    """Put addresses into the numbers of a call: those of arrays, of the scratch memory and of the counters."""
    counters = numbers.ctypes.data + 8 * len(FIELDS)
    numbers[_FIRST_ARRAY : _FIRST_ARRAY + len(arrays)] = arrays
    numbers[_FIRST_COUNTER:_FIRST_SCRATCH] = (counters, counters + 8)
    numbers[_FIRST_SCRATCH : _FIRST_SCRATCH + len(plan.SCRATCH)] += scratch


class Scratch(NamedTuple):
    """The scratch arrays of one thread, as `plan.scratch` describes them."""

    x: Any
    out: Any
    states: Any
    exponentials: Any
    weights: Any
    kernels: Any
    powers: Any
    transposed: Any
    outward: Any
    d_output: Any
    d_states: Any
    lag_sums: Any
    square: Any
    d_inward: Any
    d_outward: Any
    d_carry: Any
    d_z: Any
    d_w: Any


@njit(nogil=True, error_model="numpy", inline="always")
def scratch_of(args):
    """Return the arrays of the next thread."""
    offset = fetch_add(args.threads_started) * args.scratch_bytes
    return Scratch(
        floats(args.x + offset),
        floats(args.out + offset),
        floats(args.states + offset),
        doubles(args.exponentials + offset),
        floats(args.weights + offset),
        floats(args.kernels + offset),
        floats(args.powers + offset),
        floats(args.transposed + offset),
        floats(args.outward + offset),
        floats(args.d_output + offset),
        floats(args.d_states + offset),
        floats(args.lag_sums + offset),
        floats(args.square + offset),
        floats(args.d_inward + offset),
        floats(args.d_outward + offset),
        floats(args.d_carry + offset),
        floats(args.d_z + offset),
        floats(args.d_w + offset),
    )
