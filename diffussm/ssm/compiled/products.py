"""The products of one channel's rows: with the Toeplitz matrix of its kernel, by lags, and the carry of states."""

import numpy as np
from numba import njit

from diffussm.ssm.compiled.plan import COLUMNS, LANES, ROW_PADDING, ROWS_PER_PARTIAL_SUM
from diffussm.ssm.compiled.tile import product
from diffussm.ssm.compiled.vector import constant, load, never_inlined, store


@njit(nogil=True, error_model="numpy")
def convolve(rows, chunk, x, kernel, backwards, out, add):
    """Compute in each row out_i = sum over j <= i of K_(i - j) x_j, or over j >= i of K_(j - i) x_j if `backwards`;
    add it to `out` if `add`. Blocks of T that are 0 are skipped, sixteen columns at a time."""
    never_inlined()
    line = chunk + ROW_PADDING
    for i in range(0, chunk, COLUMNS):
        first, count, k = (i, chunk - i, 2 * chunk - 1) if backwards else (0, i + COLUMNS, i)
        product(rows, COLUMNS, count, x + first, line, 1, kernel + (COLUMNS + k), -1, out + i, line, add)


@njit(nogil=True, error_model="numpy")
def add_lag_sums(rows, chunk, early, late, square, sums):
    """Add to sums_l the sum over rows and j of early_j late_(j + l); `square` is scratch, 0 in columns beyond the
    chunk."""
    never_inlined()
    line = chunk + ROW_PADDING
    for i in range(0, chunk, COLUMNS):
        sum_over_rows(rows, i + COLUMNS, COLUMNS, early, line, late + i, line, square + i, line)
    for j in range(chunk):
        diagonal = square + j * (line + 1)
        for lag in range(0, chunk - j, LANES):
            store(sums + lag, load(sums + lag) + load(diagonal + lag))


@njit(nogil=True, error_model="numpy")
def sum_over_rows(rows, height, columns, a, a_row, b, b_row, out, out_row):
    """Set out (height, columns) = a^T b for a (rows, height) and b (rows, columns), as a sum of partial sums, which
    rounds less."""
    never_inlined()
    for first in range(0, rows, ROWS_PER_PARTIAL_SUM):
        count = min(ROWS_PER_PARTIAL_SUM, rows - first)
        product(height, columns, count, a + first * a_row, 1, a_row, b + first * b_row, b_row, out, out_row, first > 0)


@njit(nogil=True, error_model="numpy")
def carry(states, factor, batch, chunks, pairs, backwards):
    """Replace s_k of each chunk by the state before it: h_0 = 0, h_(k+1) = f h_k + s_k, from the right if
    `backwards`."""
    never_inlined()
    row = 2 * pairs + ROW_PADDING
    first, step = ((chunks - 1) * row, -row) if backwards else (0, row)
    for s in range(0, pairs, LANES):
        f_re, f_im = load(factor + s), load(factor + (pairs + s))
        for b in range(batch):
            h_re, h_im = constant(np.float32(0)), constant(np.float32(0))
            state = states + (b * chunks * row + first + s)
            for _ in range(chunks):
                s_re, s_im = load(state), load(state + pairs)
                store(state, h_re)
                store(state + pairs, h_im)
                h_re, h_im = f_re * h_re - f_im * h_im + s_re, f_re * h_im + f_im * h_re + s_im
                state = state + step


@njit(nogil=True, error_model="numpy")
def carry_backward(d_states, states, factor, batch, chunks, pairs, backwards, d_factor):
    """Backpropagate through `carry`: replace the gradients of h_k by those of s_k, and set `d_factor` (2, pairs) to
    that of f."""
    never_inlined()
    row = 2 * pairs + ROW_PADDING
    first, step = (0, row) if backwards else ((chunks - 1) * row, -row)
    for s in range(0, pairs, LANES):
        f_re, f_im = load(factor + s), load(factor + (pairs + s))
        d_re, d_im = constant(np.float32(0)), constant(np.float32(0))
        for b in range(batch):
            g_re, g_im = constant(np.float32(0)), constant(np.float32(0))
            at = b * chunks * row + first + s
            for _ in range(chunks):
                gradient, state = d_states + at, states + at
                o_re, o_im = load(gradient), load(gradient + pairs)
                h_re, h_im = load(state), load(state + pairs)
                store(gradient, g_re)
                store(gradient + pairs, g_im)
                d_re += h_re * g_re + h_im * g_im
                d_im += h_re * g_im - h_im * g_re
                g_re, g_im = f_re * g_re + f_im * g_im + o_re, f_re * g_im - f_im * g_re + o_im
                at += step
        store(d_factor + s, d_re)
        store(d_factor + (pairs + s), d_im)
