"""What each backend of S4D keeps for its backward pass. No torch.

Letters: B batch, L positions, D channels, N state size, C positions of a chunk; both directions. All is float32 or
complex64, in any precision, but discretisation and the reference, which are in double precision.
"""

from typing import NamedTuple

from diffussm.cost.memory.precision import COMPLEX64, COMPLEX128, FLOAT32, FLOAT64, INT64
from diffussm.ssm.backends import chunk_length


class Kept(NamedTuple):
    """Bytes of one mixer that autograd keeps: for each image, and whatever the number of images."""

    per_image: int
    fixed: int


def kept(backend: str, width: int, state: int, length: int, bidirectional: bool) -> Kept:
    """Return what a backend keeps of one S4D mixer, besides its parameters."""
    match backend:
        case "compiled":  # u alone: tables and states are made again
            return Kept(FLOAT32 * length * width, 0)
        case "chunked":
            return _chunked(width, state, length, bidirectional)
        case "fft":
            return _fft(width, state, length)
        case "reference":
            return _recurrence(width, state, length)
    raise ValueError(f"unknown backend {backend!r}")


def made_in_backward(backend: str, width: int, state: int, length: int) -> int:
    """Return the bytes that the backward pass of one mixer makes at once, beside tensors of the size of its input."""
    return 2 * _exponentials(width, state, length) if backend == "fft" else 0  # two gradients of them


def _chunked(d: int, n: int, length: int, bidirectional: bool) -> Kept:
    """Return u, and, if there are several chunks, their states; the tables: powers of a and the Toeplitz matrix, the
    weights out of the state, and, where that is not a part of the powers, those into it."""
    chunk = chunk_length(length)
    chunks = -(-length // chunk)
    per_image, tables = chunks * chunk * d, 2 * d * ((chunk + 1) * n + chunk**2)
    if chunks > 1:
        per_image += 2 * chunks * d * n
        tables += (2 + (1 if bidirectional else 2)) * d * chunk * n
    return Kept(FLOAT32 * per_image, FLOAT32 * tables)


def _fft(d: int, n: int, length: int) -> Kept:
    """Return u, u padded to 2L and its spectrum; the same of the kernel, with its exponentials and weights, and what
    discretisation keeps."""
    per_image = FLOAT32 * 3 * length + COMPLEX64 * (length + 1)
    kernel = FLOAT32 * 2 * length + COMPLEX64 * (length + 1 + n // 2)
    discretisation = n // 2 * (3 * FLOAT64 + 4 * COMPLEX128) + FLOAT64
    tables = _exponentials(d, n, length) + 2 * d * (kernel + discretisation) + INT64 * length
    return Kept(d * per_image, tables)


def _exponentials(d: int, n: int, length: int) -> int:
    return COMPLEX64 * 2 * d * n // 2 * length


def _recurrence(d: int, n: int, length: int) -> Kept:
    """Return u, and the states at all positions and before the first; and what discretisation keeps."""
    per_image = 2 * (FLOAT64 * length + COMPLEX128 * n // 2 * (length + 1))
    discretisation = n // 2 * (3 * FLOAT64 + 5 * COMPLEX128) + 2 * FLOAT64
    return Kept(d * per_image, 2 * d * discretisation)
