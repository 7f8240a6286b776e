"""How a call is split into blocks, and the scratch memory that this takes: plain arithmetic, no numba."""

from typing import NamedTuple

from diffussm.ssm.backends import chunk_length

LANES = 8  # numbers in a vector
COLUMNS = 16  # columns of a tile
ROW_PADDING = 16  # numbers between rows, so that neighbouring rows do not fall into one set of the cache
ROWS_PER_PARTIAL_SUM = 128  # rows that are summed before their sum is added to the total
PANEL = 24  # sequences of one chunk that are processed together, so that they stay in the cache


class BlockSizes(NamedTuple):
    pairs: int  # rounded up to whole vectors
    chunk: int  # positions in a chunk
    channels: int  # channels that are processed together
    panel: int  # sequences that are processed together
    rows: int  # rows of a channel in a panel, an even number


def block_sizes(batch: int, length: int, width: int, stored_pairs: int, threads: int) -> BlockSizes:
    """Return the block sizes of a call. Short sequences take sixteen channels at a time, which is a whole cache line,
    if that leaves work for all threads."""
    chunk = round_up(chunk_length(length), COLUMNS)
    short = chunk >= length
    channels = min(width, 2 * LANES if short and width >= 2 * LANES * threads else LANES)
    panel = min(batch, PANEL) if short else batch
    return BlockSizes(round_up(stored_pairs, LANES), chunk, channels, panel, round_up(panel * -(-length // chunk), 2))


def round_up(number: int, step: int) -> int:
    """Return the smallest multiple of `step` that is at least `number`."""
    return -(-number // step) * step


def scratch(block_sizes: BlockSizes, backward: bool) -> dict[str, int]:
    """Return the size of each scratch array of a thread in float32 numbers, rounded up to whole cache lines.

    With N = 64 the backward pass takes 5 B L numbers per channel, and tables of about 30,000."""
    pairs, chunk, channels, _, rows = block_sizes
    line, row, layers = chunk + ROW_PADDING, 2 * pairs + ROW_PADDING, 2 * channels
    panel = channels * (rows * line + ROW_PADDING)
    both = {
        "x": panel,  # (channel, row, position): of u
        "out": panel,  # of y, or of the gradient of u
        "states": rows * row,
        "exponentials": 2 * layers * 2 * pairs,  # of every channel and layer, in float64
        "weights": layers * 2 * pairs,  # of every channel and layer
        "kernels": layers * 2 * line,  # of every channel and layer
        "powers": (chunk + 1) * row,  # of one channel of one layer, as what follows
        "transposed": 2 * pairs * line,  # powers or outward, rows made columns
        "outward": chunk * row,
    }
    back = {
        "d_output": panel,  # (channel, row, position): the gradient of one layer's y
        "d_states": rows * row,
        "lag_sums": layers * line,  # the gradients of kernels
        "square": chunk * line,
        "d_inward": chunk * row,  # the gradient of the powers on the way into the state
        "d_outward": chunk * row,
        "d_carry": 2 * pairs,
        "d_z": 2 * pairs,
        "d_w": 2 * pairs,
    }
    return {name: round_up(count, 16) if backward or name in both else 0 for name, count in (both | back).items()}


SCRATCH = tuple(scratch(block_sizes(1, 1, 1, 1, 1), backward=True))
