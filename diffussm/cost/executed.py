"""Multiply-adds that a backend really executes, in closed form: no torch.

S4D is one function and its backends compute it in different ways; these columns stand beside the headline, which is the
same for all. What is done once per call and not per image, making kernels and tables, is apart. A complex product is 4
MACs, one with a real number 2; exponentials and sums are not counted.
"""

import math
from typing import NamedTuple

from diffussm.config import Config
from diffussm.cost.closed_form import forward_macs
from diffussm.ssm.choice import chunk_length, stated
from diffussm.ssm.compiled.plan import COLUMNS, LANES, round_up


class Executed(NamedTuple):
    """MACs of a network call: on each image, of them in matrix products and attention, and once whatever the batch."""

    per_image: int
    products: int
    fixed: int


def executed_macs(config: Config, backend: str | None = None) -> Executed | None:
    """Of the whole network by `backend`, or else the config's; None where a mixer from outside states no MACs."""
    m, macs = config.model, forward_macs(config)
    if macs.mixer is None:
        return None
    if m.kind == "dit" or m.mixer != "s4d":
        total = macs.dense + macs.mixer
        return Executed(total, total, 0)
    one = s4d(stated(backend or config.training.backend), m.width, m.state, m.length)
    return Executed(macs.dense + m.depth * one.per_image, macs.dense + m.depth * one.products, m.depth * one.fixed)


def s4d(backend: str, width: int, state: int, length: int) -> Executed:
    """Of one mixer: D channels, both directions."""
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
    """A position: a x, c x complex, b u with a real number, for N/2 pairs; the skip. Once: dt A and b."""
    return Executed(2 * d * length * (5 * n + 1), 0, 2 * d * 5 * n)


def _fft(d: int, n: int, length: int) -> Executed:
    """An image: one FFT and two inverse ones of 2L real points, 2 (L + 1) complex products, two skips; once: the
    kernel's exponents and its sum over the pairs, and its two FFTs."""
    transform = 2.5 * length * math.log2(2 * length)
    kernel = 2 * (_discretisation(n) + n * length + 2 * n * length + transform)
    return Executed(round(d * (3 * transform + 8 * (length + 1) + 2 * length)), 0, round(d * kernel))


def chunked(d: int, n: int, length: int, chunk: int, toeplitz: int | None = None) -> Executed:
    """From exponents on. A chunk: its Toeplitz product, and where there are more of them, into the state, the carry and
    out of the state. `toeplitz`: of the first, where it is not all of C x C.
    Once: powers of a and their squares, the kernel, the weights out of the state."""
    chunks = -(-length // chunk)
    tables = 2 * n * chunk + 2 * n * math.ceil(math.log2(chunk + 1)) + n * chunk
    products, carry = chunks * (toeplitz or chunk**2), 0
    if chunks > 1:
        products += chunks * 2 * n * chunk
        carry = (chunks - 1) * 2 * n
        tables += 2 * n * chunk
    return Executed(2 * d * (products + carry), 2 * d * products, 2 * d * tables)


def _discretisation(n: int) -> int:
    """Of a channel's N/2 pairs: dt A and 2 C with real numbers, a complex product, a complex quotient at 8."""
    return n // 2 * (2 + 2 + 4 + 8)
