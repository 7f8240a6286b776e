"""What each backend of S4D keeps for its backward pass. No torch.

Letters: B batch, L positions, D channels, N state size, C positions of a chunk; both directions. All is float32 or
complex64, in any precision, but discretisation and the states of the reference, which are in double precision, and what
`chunked` keeps on GPUs, which is in that of dense layers.
"""

from typing import NamedTuple

from diffussm.cost.memory.precision import COMPLEX64, COMPLEX128, FLOAT32, Bytes
from diffussm.ssm.backends import batched_chunks, chunk_length


class Kept(NamedTuple):
    """Bytes of one mixer that autograd keeps: for each image, and whatever the number of images."""

    per_image: int
    fixed: int


def kept(backend: str, width: int, state: int, length: int, bidirectional: bool, size: Bytes) -> Kept:
    """Return what a backend keeps of one S4D mixer, besides its parameters."""
    match backend:
        case "compiled" | "reference":  # u alone: tables and states are made again
            return Kept(FLOAT32 * length * width, 0)
        case "chunked" if size.batched:
            return _batched(width, state, length, size)
        case "chunked":
            return _chunked(width, state, length, bidirectional)
        case "fft":
            return _fft(width, state, length)
    raise ValueError(f"unknown backend {backend!r}")


def made_in_backward(backend: str, width: int, state: int, length: int, images: int, size: Bytes) -> int:
    """Return the bytes that the backward pass of one mixer makes at once, beside tensors of the size of its input."""
    match backend:
        case "chunked" if size.batched:
            return _made_by_batched(width, state, length, images, size)
        case "fft":
            return 2 * _exponentials(width, state, length)  # two gradients of them
        case "reference":
            return images * COMPLEX128 * width * state // 2 * length  # the states of one layer
    return 0


def _chunked(d: int, n: int, length: int, bidirectional: bool) -> Kept:
    """Return u, and, if there are several chunks, their states; discretisation; the tables: powers of a and the
    Toeplitz matrix, the weights out of the state, and, where that is not a part of the powers, those into it."""
    chunk = chunk_length(length)
    chunks = -(-length // chunk)
    per_image, tables = chunks * chunk * d, 2 * d * ((chunk + 1) * n + chunk**2)
    if chunks > 1:
        per_image += 2 * chunks * d * n
        tables += (2 + (1 if bidirectional else 2)) * d * chunk * n
    return Kept(FLOAT32 * per_image, FLOAT32 * tables + _discretisation(d, n))


def _batched(d: int, n: int, length: int, size: Bytes) -> Kept:
    """Return u, and, if there are several chunks, the states that enter them; discretisation."""
    cut = batched_chunks(length)
    states = 2 * cut.number * n if cut.number > 1 else 0
    return Kept(size.dense * d * (cut.padded + states), _discretisation(d, n))


def _made_by_batched(d: int, n: int, length: int, images: int, size: Bytes) -> int:
    """Return gradients of outputs and of what is added to states, and these in float32 before and after the carry;
    tables, of which those for states are in float32 too; the matrices of the carry."""
    cut = batched_chunks(length)
    chunk, states = cut.length, n if cut.number > 1 else 0
    sequences = cut.number * images * 2 * ((chunk + states) * size.dense + 2 * states * FLOAT32)
    tables = chunk * 2 * ((chunk + states) * size.dense + 2 * n * FLOAT32)
    carry = sum(FLOAT32 * 4 * group**2 * states for group in cut.groups)
    return d * (sequences + tables + carry)


def _fft(d: int, n: int, length: int) -> Kept:
    """Return u and its spectrum; discretisation, the spectrum of the kernel and its exponentials."""
    per_image = FLOAT32 * length + COMPLEX64 * (length + 1)
    kernel = 2 * d * COMPLEX64 * (length + 1) + _exponentials(d, n, length)
    return Kept(d * per_image, kernel + _discretisation(d, n))


def _exponentials(d: int, n: int, length: int) -> int:
    return COMPLEX64 * 2 * d * n // 2 * length


def _discretisation(d: int, n: int) -> int:
    """Return z and c, and A and exp(z) - 1."""
    return COMPLEX128 * 4 * 2 * d * n // 2
