"""From (B, L, D) to rows of one channel and back: eight by eight numbers at a time.

A channel's rows are chunks: sequence b has the rows b n to (b + 1) n, its position t is in column t mod C of its row
t div C.
"""

from numba import njit

from diffussm.ssm.compiled.plan import LANES, ROOM
from diffussm.ssm.compiled.vector import never_inlined, transpose


@njit(nogil=True, error_model="numpy")
def gather(source, width, batch, length, chunk, channels, rows, apart):
    """`channels` columns of `batch` sequences of `width` into rows, those of a channel `apart` from the next one's."""
    never_inlined()
    line, chunks = chunk + ROOM, -(-length // chunk)
    for b in range(batch):
        for t in range(0, length, LANES):
            outer, inner = source + (b * length + t) * width, rows + ((b * chunks + t // chunk) * line + t % chunk)
            for e in range(0, channels, LANES):
                if t + LANES <= length and e + LANES <= channels:
                    transpose(outer + e, width, inner + e * apart, apart)
                else:
                    for channel in range(e, min(e + LANES, channels)):
                        for step in range(min(LANES, length - t)):
                            inner[channel * apart + step] = outer[step * width + channel]


@njit(nogil=True, error_model="numpy")
def scatter(rows, apart, target, width, batch, length, chunk, channels):
    """The way back."""
    never_inlined()
    line, chunks = chunk + ROOM, -(-length // chunk)
    for b in range(batch):
        for t in range(0, length, LANES):
            outer, inner = target + (b * length + t) * width, rows + ((b * chunks + t // chunk) * line + t % chunk)
            for e in range(0, channels, LANES):
                if t + LANES <= length and e + LANES <= channels:
                    transpose(inner + e * apart, apart, outer + e, width)
                else:
                    for channel in range(e, min(e + LANES, channels)):
                        for step in range(min(LANES, length - t)):
                            outer[step * width + channel] = inner[channel * apart + step]
