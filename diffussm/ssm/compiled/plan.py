"""How a call is cut, and what scratch memory that takes: plain arithmetic, no numba."""

from typing import NamedTuple

from diffussm.ssm.choice import chunk_length

LANES = 8  # of a vector
COLUMNS = 16  # of a tile
ROOM = 16  # what rows have beyond their length, so that neighbours do not meet in one set of the cache
SUMMED = 128  # rows that are added up before their sum is added to others
PANEL = 24  # sequences of one chunk that are worked on together, so that they stay in the cache


class Cut(NamedTuple):
    pairs: int  # in whole vectors
    chunk: int  # positions
    channels: int  # that are worked on together
    panel: int  # sequences that are worked on together
    rows: int  # of a channel in a panel, an even number


def cut(batch: int, length: int, width: int, stored_pairs: int, threads: int) -> Cut:
    """Of short sequences sixteen channels, a whole line of the cache, if that leaves work for all threads."""
    chunk = up(chunk_length(length), COLUMNS)
    short = chunk >= length
    channels = min(width, 2 * LANES if short and width >= 2 * LANES * threads else LANES)
    panel = min(batch, PANEL) if short else batch
    return Cut(up(stored_pairs, LANES), chunk, channels, panel, up(panel * -(-length // chunk), 2))


def up(number: int, step: int) -> int:
    """The next multiple of `step`."""
    return -(-number // step) * step


def scratch(cut: Cut, backward: bool) -> dict[str, int]:
    """Float32 numbers of each array of a thread, in whole lines of the cache.

    With N = 64 the backward pass has 5 B L numbers for a channel at work, beside tables of some 30,000."""
    pairs, chunk, channels, _, rows = cut
    line, row, layers = chunk + ROOM, 2 * pairs + ROOM, 2 * channels
    panel = channels * (rows * line + ROOM)
    both = {
        "x": panel,  # (channel, row, position): of u
        "out": panel,  # of y, or of the gradient of u
        "states": rows * row,
        "exponentials": 2 * layers * 2 * pairs,  # of every channel and layer, in float64
        "weights": layers * 2 * pairs,  # of every channel and layer
        "kernels": layers * 2 * line,  # of every channel and layer
        "powers": (chunk + 1) * row,  # of one channel of one layer, as what follows
        "turned": 2 * pairs * line,  # powers or outward, rows made columns
        "outward": chunk * row,
    }
    back = {
        "of_output": panel,  # (channel, row, position): the gradient of one layer's y
        "of_states": rows * row,
        "lag_sums": layers * line,  # the gradients of kernels
        "square": chunk * line,
        "of_inward": chunk * row,  # the gradient of the powers on the way into the state
        "of_outward": chunk * row,
        "of_carry": 2 * pairs,
        "of_z": 2 * pairs,
        "of_w": 2 * pairs,
    }
    return {name: up(count, 16) if backward or name in both else 0 for name, count in (both | back).items()}


SCRATCH = tuple(scratch(cut(1, 1, 1, 1, 1), backward=True))
