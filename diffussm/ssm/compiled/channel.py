"""The tables of one channel of one layer: the powers of a, the kernel, and the map from state to output.

All are float32. `pairs` here is a multiple of eight: entries beyond the layer's N/2 are 0. A row of states or of a
table holds the real parts of all pairs, then their imaginary parts. With a = e^z:

    powers   a^l for l <= C, a row for each l
    outward  w a^(i + 1) as the real product with a state needs it, row by row: real part, minus the imaginary part
    kernel   sixteen zeros, K_0 to K_(C-1), the same backwards, sixteen zeros, where K_l = Re(sum w a^l): read
             backwards from any position, it is a row of the Toeplitz matrix T or of its transpose
"""

import numpy as np
from numba import njit

from diffussm.ssm.compiled.plan import COLUMNS, LANES, ROW_PADDING
from diffussm.ssm.compiled.vector import constant, load, load_splat, never_inlined, reversed_lanes, store, transpose


@njit(nogil=True, error_model="numpy")
def fill_powers(exponential, pairs, chunk, powers):
    """Fill `powers` from `exponential`, e^z in double precision (2, pairs).

    Exponents that are powers of two are squared in double precision and rounded once; the others are products of these.
    """
    never_inlined()
    row = 2 * pairs + ROW_PADDING
    for s in range(pairs):
        powers[s] = 1
        powers[pairs + s] = 0
        re, im, m = exponential[s], exponential[pairs + s], 1
        while m <= chunk:
            powers[m * row + s] = re
            powers[m * row + pairs + s] = im
            re, im = re * re - im * im, 2 * re * im
            m *= 2
    m = 2
    while m < chunk:
        for s in range(0, pairs, LANES):
            base = powers + (m * row + s)
            p_re, p_im = load(base), load(base + pairs)
            for k in range(1, min(m, chunk + 1 - m)):
                factor, to = powers + (k * row + s), base + k * row
                q_re, q_im = load(factor), load(factor + pairs)
                store(to, p_re * q_re - p_im * q_im)
                store(to + pairs, p_re * q_im + p_im * q_re)
        m *= 2


@njit(nogil=True, error_model="numpy")
def transpose_rows(table, pairs, chunk, backwards, out):
    """Transpose the first `chunk` rows of a table into `out`, in reverse order if `backwards`."""
    never_inlined()
    row, line = 2 * pairs + ROW_PADDING, chunk + ROW_PADDING
    first, step = ((chunk - 1) * row, -row) if backwards else (0, row)
    for column in range(0, chunk, LANES):
        for s in range(0, 2 * pairs, LANES):
            transpose(table + (first + column * step + s), step, out + (s * line + column), line)


@njit(nogil=True, error_model="numpy")
def fill_kernel(powers_transposed, weights, skip, pairs, chunk, kernel):
    """Fill `kernel` from the transposed powers and the weights w. The skip is part of K_0."""
    never_inlined()
    line, zero = chunk + ROW_PADDING, constant(np.float32(0))
    forward_half, reversed_half = kernel + COLUMNS, kernel + (COLUMNS + 2 * chunk)
    for lag in range(0, COLUMNS, LANES):
        store(kernel + lag, zero)
        store(reversed_half + lag, zero)
    for lag in range(0, chunk, LANES):
        re, im = zero, zero
        for s in range(pairs):
            re += load_splat(weights + s) * load(powers_transposed + (s * line + lag))
            im += load_splat(weights + (pairs + s)) * load(powers_transposed + ((pairs + s) * line + lag))
        store(forward_half + lag, re - im)
        store(reversed_half + (-LANES - lag), reversed_lanes(re - im))
    forward_half[0] += skip
    forward_half[2 * chunk - 1] += skip


@njit(nogil=True, error_model="numpy")
def fill_outward(powers, weights, pairs, chunk, outward):
    """Fill `outward` from the powers and the weights w."""
    never_inlined()
    row = 2 * pairs + ROW_PADDING
    for s in range(0, pairs, LANES):
        w_re, w_im = load(weights + s), load(weights + (pairs + s))
        for i in range(chunk):
            power, to = powers + ((i + 1) * row + s), outward + (i * row + s)
            re, im = load(power), load(power + pairs)
            store(to, re * w_re - im * w_im)
            store(to + pairs, constant(np.float32(0)) - (re * w_im + im * w_re))
