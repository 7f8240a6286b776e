"""Transposition of (B, L, D) to rows of one channel and back, in blocks of eight by eight.

A channel's rows are chunks: sequence b has the rows b n to (b + 1) n, and its position t is in column t mod C of its
row t div C.
"""

from numba import njit

from diffussm.ssm.compiled.plan import LANES, ROW_PADDING
from diffussm.ssm.compiled.vector import never_inlined, transpose


@njit(nogil=True, error_model="numpy")
def gather(source, width, batch, length, chunk, channels, rows, channel_stride):
    """Copy `channels` columns of `batch` sequences of `width` into rows; those of neighbouring channels lie
    `channel_stride` apart."""
    never_inlined()
    line, chunks = chunk + ROW_PADDING, -(-length // chunk)
    for b in range(batch):
        for t in range(0, length, LANES):
            outer, inner = source + (b * length + t) * width, rows + ((b * chunks + t // chunk) * line + t % chunk)
            for e in range(0, channels, LANES):
                if t + LANES <= length and e + LANES <= channels:
                    transpose(outer + e, width, inner + e * channel_stride, channel_stride)
                else:
                    for channel in range(e, min(e + LANES, channels)):
                        for step in range(min(LANES, length - t)):
                            inner[channel * channel_stride + step] = outer[step * width + channel]


@njit(nogil=True, error_model="numpy")
def scatter(rows, channel_stride, target, width, batch, length, chunk, channels):
    """Copy the rows of `channels` channels back to columns of `target`: the inverse of `gather`."""
    never_inlined()
    line, chunks = chunk + ROW_PADDING, -(-length // chunk)
    for b in range(batch):
        for t in range(0, length, LANES):
            outer, inner = target + (b * length + t) * width, rows + ((b * chunks + t // chunk) * line + t % chunk)
            for e in range(0, channels, LANES):
                if t + LANES <= length and e + LANES <= channels:
                    transpose(inner + e * channel_stride, channel_stride, outer + e, width)
                else:
                    for channel in range(e, min(e + LANES, channels)):
                        for step in range(min(LANES, length - t)):
                            outer[step * width + channel] = inner[channel * channel_stride + step]
