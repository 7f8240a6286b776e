"""Multiply-adds that a backend actually executes, in closed form. No torch.

The backends of S4D compute one function in different ways; these counts are shown beside the headline count, which is
the same for all. Work that is done once per call rather than per image, such as making kernels and tables, is counted
separately. A complex product is 4 MACs, or 2 with a real number; exponentials and sums are not counted.
"""

import math
from typing import NamedTuple

from diffussm.config import Config
from diffussm.cost.closed_form import forward_macs
from diffussm.ssm.backends import backend_for_cost, chunk_length
from diffussm.ssm.compiled.plan import COLUMNS, LANES, round_up


class Executed(NamedTuple):
    """MACs of a network call."""

    per_image: int
    products: int  # the part of per_image in matrix products and attention
    fixed: int  # once per call, whatever the batch


def executed_macs(config: Config, backend: str | None = None) -> Executed | None:
    """Return the MACs of the network by `backend` (None: the config's); None if an external mixer states no MACs."""
    m, macs = config.model, forward_macs(config)
    if macs.mixer is None:
        return None
    if m.kind == "dit" or m.mixer != "s4d":
        total = macs.dense + macs.mixer
        return Executed(total, total, 0)
    one = s4d(backend_for_cost(backend or config.training.backend), m.width, m.state, m.length)
    return Executed(macs.dense + m.depth * one.per_image, macs.dense + m.depth * one.products, m.depth * one.fixed)


def s4d(backend: str, width: int, state: int, length: int) -> Executed:
    """Return the MACs of one S4D mixer: D channels, both directions."""
    match backend:
        case "reference":
            return _recurrence(width, state, length)
        case "fft":
            return _fft(width, state, length)
        case "compiled":
            pairs, chunk = round_up(state // 2, LANES), round_up(chunk_length(length), COLUMNS)
            one = chunked(width, 2 * pairs, length, chunk, toeplitz=chunk * (chunk + COLUMNS) // 2)
            return one._replace(fixed=one.fixed + 2 * width * _discretisation(state))
        case "chunked":
            one = chunked(width, state, length, chunk_length(length))
            return one._replace(fixed=one.fixed + 2 * width * _discretisation(state))
    raise ValueError(f"unknown backend {backend!r}")


def _recurrence(d: int, n: int, length: int) -> Executed:
    """Count, per position and pair, the complex products a x and c x, and b u with a real number; and the skip. Fixed:
    dt A and b."""
    return Executed(2 * d * length * (5 * n + 1), 0, 2 * d * 5 * n)


def _fft(d: int, n: int, length: int) -> Executed:
    """Count, per image, one FFT and two inverse FFTs of 2L real points, 2 (L + 1) complex products and two skips.
    Fixed: the exponents of the kernel, its sum over the pairs, and its two FFTs."""
    transform = 2.5 * length * math.log2(2 * length)
    kernel = 2 * (_discretisation(n) + n * length + 2 * n * length + transform)
    return Executed(round(d * (3 * transform + 8 * (length + 1) + 2 * length)), 0, round(d * kernel))


def chunked(d: int, n: int, length: int, chunk: int, toeplitz: int | None = None) -> Executed:
    """Return the MACs after discretisation. Per chunk: the Toeplitz product and, if there are several chunks, the
    products into the state and out of it, and the carry. Fixed: the powers of a and their squares, the kernel, and the
    weights out of the state.

    `toeplitz` is the number of MACs of one Toeplitz product with a vector, if not C x C.
    """
    chunks = -(-length // chunk)
    tables = 2 * n * chunk + 2 * n * math.ceil(math.log2(chunk + 1)) + n * chunk
    products, carry = chunks * (toeplitz or chunk**2), 0
    if chunks > 1:
        products += chunks * 2 * n * chunk
        carry = (chunks - 1) * 2 * n
        tables += 2 * n * chunk
    return Executed(2 * d * (products + carry), 2 * d * products, 2 * d * tables)


def _discretisation(n: int) -> int:
    """Count, for the N/2 pairs of a channel: dt A and 2 C (real factors), a complex product, a complex quotient."""
    return n // 2 * (2 + 2 + 4 + 8)
