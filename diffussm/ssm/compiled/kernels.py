"""The forward and the backward pass over blocks of channels.

A sequence of one chunk needs no state, and its only table, a kernel for each channel, is small: the kernels of a block
of channels are kept while panels of sequences are processed. Tables of longer sequences fill the cache: they are
processed one channel of one layer at a time, with all sequences.

`channel` is an index over both layers, `slot` one over the layers and channels of a block.
"""

import numpy as np
from numba import njit

from diffussm.ssm.compiled.arguments import fetch_add, floats, scratch_of
from diffussm.ssm.compiled.channel import fill_kernel, fill_outward, fill_powers, transpose_rows
from diffussm.ssm.compiled.discretisation import discretise, discretise_backward
from diffussm.ssm.compiled.layout import gather, scatter
from diffussm.ssm.compiled.plan import LANES, ROW_PADDING
from diffussm.ssm.compiled.products import add_lag_sums, carry, carry_backward, convolve, sum_over_rows
from diffussm.ssm.compiled.tile import product
from diffussm.ssm.compiled.vector import constant, load, load_splat, never_inlined, store


@njit(nogil=True, error_model="numpy")
def clear(array, count):
    """Set `count` numbers to 0."""
    never_inlined()
    for k in range(0, count, LANES):
        store(array + k, constant(np.float32(0)))


@njit(nogil=True, error_model="numpy", inline="always")
def channel_stride(args):
    """Return the distance from a channel of a panel to the next one."""
    return args.rows * (args.chunk + ROW_PADDING) + ROW_PADDING


@njit(nogil=True, error_model="numpy")
def fill_tables(args, scratch, channel, slot):
    """Fill the exponentials, weights and kernel at `slot`, and the channel's powers."""
    never_inlined()
    pairs, chunk, first = args.pairs, args.chunk, channel * args.stored_pairs
    exponentials, weights = scratch.exponentials + slot * 2 * pairs, scratch.weights + slot * 2 * pairs
    log_decay, frequency, c = floats(args.log_decay) + first, floats(args.frequency) + first, floats(args.c) + 2 * first
    discretise(
        floats(args.log_dt)[channel], log_decay, frequency, c, args.stored_pairs, pairs, exponentials, weights
    )  # fmt: skip
    fill_powers(exponentials, pairs, chunk, scratch.powers)
    transpose_rows(scratch.powers, pairs, chunk, False, scratch.transposed)
    kernel = scratch.kernels + slot * 2 * (chunk + ROW_PADDING)
    fill_kernel(scratch.transposed, weights, floats(args.skip)[channel], pairs, chunk, kernel)


@njit(nogil=True, error_model="numpy", inline="always")
def fill_states(args, scratch, x, backwards):
    """Fill `scratch.states` with the state before each chunk."""
    pairs, chunk = args.pairs, args.chunk
    row, line = 2 * pairs + ROW_PADDING, chunk + ROW_PADDING
    first, step = (0, row) if backwards else ((chunk - 1) * row, -row)
    product(args.rows, 2 * pairs, chunk, x, line, 1, scratch.powers + first, step, scratch.states, row, False)
    carry(scratch.states, scratch.powers + chunk * row, args.batch, -(-args.length // chunk), pairs, backwards)


@njit(nogil=True, error_model="numpy", inline="always")
def forward(args):
    scratch = scratch_of(args)
    clear(scratch.x, args.channels * channel_stride(args))  # and padding stays 0
    first = fetch_add(args.blocks_taken) * args.channels
    while first < args.width:
        channels = min(args.channels, args.width - first)
        if args.length > args.chunk:
            forward_long(args, scratch, first, channels)
        else:
            forward_short(args, scratch, first, channels)
        first = fetch_add(args.blocks_taken) * args.channels


@njit(nogil=True, error_model="numpy", inline="always")
def forward_short(args, scratch, first, channels):
    width, length, chunk, stride = args.width, args.length, args.chunk, channel_stride(args)
    for layer in range(2):
        for e in range(channels):
            fill_tables(args, scratch, layer * width + first + e, layer * args.channels + e)
    for start in range(0, args.batch, args.panel):
        sequences = min(args.panel, args.batch - start)
        u = floats(args.u) + (start * length * width + first)
        gather(u, width, sequences, length, chunk, channels, scratch.x, stride)
        for layer in range(2):
            backwards = layer == 1 and args.bidirectional != 0
            for e in range(channels):
                kernel = scratch.kernels + (layer * args.channels + e) * 2 * (chunk + ROW_PADDING)
                x, out = scratch.x + e * stride, scratch.out + e * stride
                convolve(sequences + sequences % 2, chunk, x, kernel, backwards, out, False)
            y = floats(args.y) + (start * length * 2 * width + layer * width + first)
            scatter(scratch.out, stride, y, 2 * width, sequences, length, chunk, channels)


@njit(nogil=True, error_model="numpy", inline="always")
def forward_long(args, scratch, first, channels):
    width, length, chunk, pairs, rows, stride = (
        args.width, args.length, args.chunk, args.pairs, args.rows, channel_stride(args),
    )  # fmt: skip
    row, line = 2 * pairs + ROW_PADDING, chunk + ROW_PADDING
    gather(floats(args.u) + first, width, args.batch, length, chunk, channels, scratch.x, stride)
    for layer in range(2):
        backwards = layer == 1 and args.bidirectional != 0
        for e in range(channels):
            x, out = scratch.x + e * stride, scratch.out + e * stride
            fill_tables(args, scratch, layer * width + first + e, 0)
            fill_outward(scratch.powers, scratch.weights, pairs, chunk, scratch.outward)
            transpose_rows(scratch.outward, pairs, chunk, backwards, scratch.transposed)
            fill_states(args, scratch, x, backwards)
            convolve(rows, chunk, x, scratch.kernels, backwards, out, False)
            product(rows, chunk, 2 * pairs, scratch.states, row, 1, scratch.transposed, line, out, line, True)
        y = floats(args.y) + (layer * width + first)
        scatter(scratch.out, stride, y, 2 * width, args.batch, length, chunk, channels)


@njit(nogil=True, error_model="numpy", inline="always")
def backward(args):
    scratch, layers, line = scratch_of(args), 2 * args.channels, args.chunk + ROW_PADDING
    clear(scratch.x, args.channels * channel_stride(args))
    clear(scratch.d_output, args.channels * channel_stride(args))
    clear(scratch.square, args.chunk * line)
    first = fetch_add(args.blocks_taken) * args.channels
    while first < args.width:
        channels = min(args.channels, args.width - first)
        clear(scratch.lag_sums, layers * line)
        if args.length > args.chunk:
            backward_long(args, scratch, first, channels)
        else:
            backward_short(args, scratch, first, channels)
        first = fetch_add(args.blocks_taken) * args.channels


@njit(nogil=True, error_model="numpy", inline="always")
def backward_short(args, scratch, first, channels):
    width, length, chunk, pairs, stride = args.width, args.length, args.chunk, args.pairs, channel_stride(args)
    line = chunk + ROW_PADDING
    for layer in range(2):
        for e in range(channels):
            fill_tables(args, scratch, layer * width + first + e, layer * args.channels + e)
    for start in range(0, args.batch, args.panel):
        sequences = min(args.panel, args.batch - start)
        here = start * length * width + first
        gather(floats(args.u) + here, width, sequences, length, chunk, channels, scratch.x, stride)
        for layer in range(2):
            backwards = layer == 1 and args.bidirectional != 0
            d_y = floats(args.d_y) + (start * length * 2 * width + layer * width + first)
            gather(d_y, 2 * width, sequences, length, chunk, channels, scratch.d_output, stride)
            for e in range(channels):
                slot, panel = layer * args.channels + e, e * stride
                kernel = scratch.kernels + slot * 2 * line
                convolve(
                    sequences + sequences % 2, chunk, scratch.d_output + panel, kernel, not backwards,
                    scratch.out + panel, layer == 1,
                )  # fmt: skip
                add_kernel_gradient(scratch, panel, sequences, chunk, backwards, slot)
        scatter(scratch.out, stride, floats(args.d_u) + here, width, sequences, length, chunk, channels)
    for layer in range(2):
        for e in range(channels):
            slot = layer * args.channels + e
            fill_powers(scratch.exponentials + slot * 2 * pairs, pairs, chunk, scratch.powers)
            kernel_backward(scratch, slot, pairs, chunk)
            write_parameter_gradients(args, scratch, layer * width + first + e, slot)


@njit(nogil=True, error_model="numpy", inline="always")
def backward_long(args, scratch, first, channels):
    width, length, chunk, pairs, rows, stride = (
        args.width, args.length, args.chunk, args.pairs, args.rows, channel_stride(args),
    )  # fmt: skip
    row, line, chunks = 2 * pairs + ROW_PADDING, chunk + ROW_PADDING, -(-length // chunk)
    filled = args.batch * chunks
    gather(floats(args.u) + first, width, args.batch, length, chunk, channels, scratch.x, stride)
    for layer in range(2):
        backwards = layer == 1 and args.bidirectional != 0
        start, step = ((chunk - 1) * row, -row) if backwards else (0, row)
        d_y = floats(args.d_y) + (layer * width + first)
        gather(d_y, 2 * width, args.batch, length, chunk, channels, scratch.d_output, stride)
        for e in range(channels):
            slot, channel, panel = layer * args.channels + e, layer * width + first + e, e * stride
            x, d_y, d_u = scratch.x + panel, scratch.d_output + panel, scratch.out + panel
            states, d_states = scratch.states, scratch.d_states
            fill_tables(args, scratch, channel, slot)
            fill_outward(scratch.powers, scratch.weights + slot * 2 * pairs, pairs, chunk, scratch.outward)
            transpose_rows(scratch.powers, pairs, chunk, not backwards, scratch.transposed)
            fill_states(args, scratch, x, backwards)
            product(rows, 2 * pairs, chunk, d_y, line, 1, scratch.outward + start, step, d_states, row, False)
            carry_backward(
                d_states, states, scratch.powers + chunk * row, args.batch, chunks, pairs, backwards, scratch.d_carry
            )  # fmt: skip
            convolve(rows, chunk, d_y, scratch.kernels + slot * 2 * line, not backwards, d_u, layer == 1)
            product(rows, chunk, 2 * pairs, d_states, row, 1, scratch.transposed, line, d_u, line, True)
            add_kernel_gradient(scratch, panel, filled, chunk, backwards, slot)
            sum_over_rows(filled, chunk, 2 * pairs, x, line, d_states, row, scratch.d_inward, row)
            sum_over_rows(filled, chunk, 2 * pairs, d_y, line, states, row, scratch.d_outward, row)
            kernel_backward(scratch, slot, pairs, chunk)
            states_backward(scratch, slot, pairs, chunk, backwards)
            write_parameter_gradients(args, scratch, channel, slot)
    scatter(scratch.out, stride, floats(args.d_u) + first, width, args.batch, length, chunk, channels)


@njit(nogil=True, error_model="numpy", inline="always")
def add_kernel_gradient(scratch, panel, rows, chunk, backwards, slot):
    """Add the gradient of the kernel. Of input and output the later is on the right, or on the left if `backwards`."""
    x, d_y = scratch.x + panel, scratch.d_output + panel
    sums = scratch.lag_sums + slot * (chunk + ROW_PADDING)
    early, late = (d_y, x) if backwards else (x, d_y)
    add_lag_sums(rows, chunk, early, late, scratch.square, sums)


@njit(nogil=True, error_model="numpy")
def kernel_backward(scratch, slot, pairs, chunk):
    """Set the gradients of w and z to their parts through K_l = Re(sum w a^l)."""
    never_inlined()
    row, zero = 2 * pairs + ROW_PADDING, constant(np.float32(0))
    sums = scratch.lag_sums + slot * (chunk + ROW_PADDING)
    for s in range(0, pairs, LANES):
        w_re, w_im, m_re, m_im = zero, zero, zero, zero
        for lag in range(chunk):
            power, g, weight = scratch.powers + (lag * row + s), load_splat(sums + lag), constant(np.float32(lag))
            e_re, e_im = load(power) * g, zero - load(power + pairs) * g
            w_re, w_im, m_re, m_im = w_re + e_re, w_im + e_im, m_re + weight * e_re, m_im + weight * e_im
        store(scratch.d_w + s, w_re)
        store(scratch.d_w + (pairs + s), w_im)
        z_re, z_im = times_conjugate(m_re, m_im, scratch.weights + (slot * 2 * pairs + s), pairs)
        store(scratch.d_z + s, z_re)
        store(scratch.d_z + (pairs + s), z_im)


@njit(nogil=True, error_model="numpy")
def states_backward(scratch, slot, pairs, chunk, backwards):
    """Add the parts through the powers into the state, through w a^l out of it, and through the carry a^C."""
    never_inlined()
    row, zero = 2 * pairs + ROW_PADDING, constant(np.float32(0))
    for s in range(0, pairs, LANES):
        powers, d_carry, weight = scratch.powers + s, scratch.d_carry + s, constant(np.float32(chunk))
        w_re, w_im, m_re, m_im = zero, zero, zero, zero
        z_re, z_im = times_conjugate(load(d_carry), load(d_carry + pairs), powers + chunk * row, pairs)
        z_re, z_im = z_re * weight, z_im * weight
        for i in range(chunk):
            lag, out = chunk - i if backwards else i + 1, scratch.d_outward + (i * row + s)
            weight = constant(np.float32(lag))
            e_re, e_im = times_conjugate(load(out), zero - load(out + pairs), powers + lag * row, pairs)
            w_re, w_im, m_re, m_im = w_re + e_re, w_im + e_im, m_re + weight * e_re, m_im + weight * e_im
            lag, into = i if backwards else chunk - 1 - i, scratch.d_inward + (i * row + s)
            weight = constant(np.float32(lag))
            f_re, f_im = times_conjugate(load(into), load(into + pairs), powers + lag * row, pairs)
            z_re, z_im = z_re + weight * f_re, z_im + weight * f_im
        e_re, e_im = times_conjugate(m_re, m_im, scratch.weights + (slot * 2 * pairs + s), pairs)
        d_w, d_z = scratch.d_w + s, scratch.d_z + s
        store(d_w, load(d_w) + w_re)
        store(d_w + pairs, load(d_w + pairs) + w_im)
        store(d_z, load(d_z) + (z_re + e_re))
        store(d_z + pairs, load(d_z + pairs) + (z_im + e_im))


@njit(nogil=True, error_model="numpy")
def times_conjugate(re, im, table, pairs):
    """Multiply by the conjugate of eight complex numbers of a table."""
    t_re, t_im = load(table), load(table + pairs)
    return re * t_re + im * t_im, im * t_re - re * t_im


@njit(nogil=True, error_model="numpy")
def write_parameter_gradients(args, scratch, channel, slot):
    """Write the gradients of a channel's parameters."""
    never_inlined()
    first = channel * args.stored_pairs
    floats(args.d_skip)[channel] = scratch.lag_sums[slot * (args.chunk + ROW_PADDING)]
    floats(args.d_log_dt)[channel] = discretise_backward(
        floats(args.log_dt)[channel], floats(args.log_decay) + first, floats(args.frequency) + first,
        floats(args.c) + 2 * first, args.stored_pairs, args.pairs, scratch.d_z, scratch.d_w,
        floats(args.d_log_decay) + first, floats(args.d_frequency) + first, floats(args.d_c) + 2 * first,
    )  # fmt: skip
