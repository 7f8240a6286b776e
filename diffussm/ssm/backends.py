"""Properties of the backends that need no torch, so that costs and plans can be computed without it."""

import math
from typing import NamedTuple

PORTABLE = "chunked"  # plain torch, for any device and precision
ONE_CHUNK = 128  # length of the longest sequence that is one chunk
CHUNK = 32
FACTOR = 16  # positions: chunks of the batched form are whole multiples, as tensor cores and its powers want them
GROUP = 8  # chunks whose states the batched form carries by one product


def backend_for_cost(requested: str) -> str:
    """Return the backend that costs are computed for if no machine is known: the portable one for `auto`."""
    return PORTABLE if requested == "auto" else requested


def chunk_length(length: int) -> int:
    """Return the number of positions in a chunk of a sequence of `length`."""
    return length if length <= ONE_CHUNK else CHUNK


class Chunks(NamedTuple):
    """How the batched form of `chunked`, the one for GPUs, cuts a sequence, which zeros fill up."""

    length: int  # of a chunk
    groups: tuple[int, ...]  # chunks in a group, groups in a group of groups, and so on

    @property
    def number(self) -> int:
        return math.prod(self.groups)

    @property
    def padded(self) -> int:
        """The length of the sequence when it is filled up."""
        return self.number * self.length


def batched_chunks(length: int) -> Chunks:
    """Return how the batched form cuts a sequence of `length`: into chunks of at most `ONE_CHUNK`, as equal as can
    be."""
    chunk = -(-length // -(-length // ONE_CHUNK))
    chunk += -chunk % FACTOR
    count, groups = -(-length // chunk), []
    while count > GROUP:
        above = -(-count // GROUP)
        groups.append(-(-count // above))
        count = above
    return Chunks(chunk, (*groups, count))
