"""The forward and the backward pass over blocks of channels.

A sequence of one chunk needs no state, and its only table, a kernel for each channel, is small: they are kept for a
block of channels while panels of sequences pass. Longer ones have tables that fill the cache: one channel of one layer
at a time, with all of its sequences.

`channel` counts over both layers, `slot` over the layers and channels of a block.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from diffussm.ssm.compiled.channel import fill_kernel, fill_outward, fill_powers, turn
from diffussm.ssm.compiled.discretisation import discretise, through_discretisation
from diffussm.ssm.compiled.layout import gather, scatter
from diffussm.ssm.compiled.plan import LANES, ROOM
from diffussm.ssm.compiled.products import add_lag_sums, carry, convolve, sum_over_rows, through_carry
from diffussm.ssm.compiled.task import doubles, draw, floats
from diffussm.ssm.compiled.tile import product
from diffussm.ssm.compiled.vector import constant, load, load_one, never_inlined, store


class Scratch(NamedTuple):
    """One thread's own arrays, as `plan.scratch` describes them."""

    x: Any
    out: Any
    states: Any
    exponentials: Any
    weights: Any
    kernels: Any
    powers: Any
    turned: Any
    outward: Any
    of_output: Any
    of_states: Any
    lag_sums: Any
    square: Any
    of_inward: Any
    of_outward: Any
    of_carry: Any
    of_z: Any
    of_w: Any


@njit(nogil=True, error_model="numpy", inline="always")
def scratch_of(task):
    """The next thread's."""
    mine = draw(task.threads_started) * task.scratch_bytes
    return Scratch(
        floats(task.x + mine),
        floats(task.out + mine),
        floats(task.states + mine),
        doubles(task.exponentials + mine),
        floats(task.weights + mine),
        floats(task.kernels + mine),
        floats(task.powers + mine),
        floats(task.turned + mine),
        floats(task.outward + mine),
        floats(task.of_output + mine),
        floats(task.of_states + mine),
        floats(task.lag_sums + mine),
        floats(task.square + mine),
        floats(task.of_inward + mine),
        floats(task.of_outward + mine),
        floats(task.of_carry + mine),
        floats(task.of_z + mine),
        floats(task.of_w + mine),
    )


@njit(nogil=True, error_model="numpy")
def clear(array, count):
    never_inlined()
    for k in range(0, count, LANES):
        store(array + k, constant(np.float32(0)))


@njit(nogil=True, error_model="numpy", inline="always")
def apart(task):
    """From a channel of a panel to the next one."""
    return task.rows * (task.chunk + ROOM) + ROOM


@njit(nogil=True, error_model="numpy")
def fill_tables(task, scratch, channel, slot):
    """Exponentials, weights and kernel at `slot`, and the channel's powers."""
    never_inlined()
    pairs, chunk, first = task.pairs, task.chunk, channel * task.stored_pairs
    exponentials, weights = scratch.exponentials + slot * 2 * pairs, scratch.weights + slot * 2 * pairs
    log_decay, frequency, c = floats(task.log_decay) + first, floats(task.frequency) + first, floats(task.c) + 2 * first
    discretise(
        floats(task.log_dt)[channel], log_decay, frequency, c, task.stored_pairs, pairs, exponentials, weights
    )  # fmt: skip
    fill_powers(exponentials, pairs, chunk, scratch.powers)
    turn(scratch.powers, pairs, chunk, False, scratch.turned)
    fill_kernel(
        scratch.turned, weights, floats(task.skip)[channel], pairs, chunk, scratch.kernels + slot * 2 * (chunk + ROOM)
    )  # fmt: skip


@njit(nogil=True, error_model="numpy", inline="always")
def fill_states(task, scratch, x, backwards):
    """scratch.states: the state before each chunk."""
    pairs, chunk = task.pairs, task.chunk
    row, line = 2 * pairs + ROOM, chunk + ROOM
    first, step = (0, row) if backwards else ((chunk - 1) * row, -row)
    product(task.rows, 2 * pairs, chunk, x, line, 1, scratch.powers + first, step, scratch.states, row, False)
    carry(scratch.states, scratch.powers + chunk * row, task.batch, -(-task.length // chunk), pairs, backwards)


@njit(nogil=True, error_model="numpy", inline="always")
def forward(task):
    scratch = scratch_of(task)
    clear(scratch.x, task.channels * apart(task))  # and 0 it stays where no position of a sequence is
    first = draw(task.blocks_taken) * task.channels
    while first < task.width:
        channels = min(task.channels, task.width - first)
        if task.length > task.chunk:
            forward_long(task, scratch, first, channels)
        else:
            forward_short(task, scratch, first, channels)
        first = draw(task.blocks_taken) * task.channels


@njit(nogil=True, error_model="numpy", inline="always")
def forward_short(task, scratch, first, channels):
    width, length, chunk, between = task.width, task.length, task.chunk, apart(task)
    for layer in range(2):
        for e in range(channels):
            fill_tables(task, scratch, layer * width + first + e, layer * task.channels + e)
    for start in range(0, task.batch, task.panel):
        sequences = min(task.panel, task.batch - start)
        u = floats(task.u) + (start * length * width + first)
        gather(u, width, sequences, length, chunk, channels, scratch.x, between)
        for layer in range(2):
            backwards = layer == 1 and task.bidirectional != 0
            for e in range(channels):
                kernel = scratch.kernels + (layer * task.channels + e) * 2 * (chunk + ROOM)
                x, out = scratch.x + e * between, scratch.out + e * between
                convolve(sequences + sequences % 2, chunk, x, kernel, backwards, out, False)
            y = floats(task.y) + (start * length * 2 * width + layer * width + first)
            scatter(scratch.out, between, y, 2 * width, sequences, length, chunk, channels)


@njit(nogil=True, error_model="numpy", inline="always")
def forward_long(task, scratch, first, channels):
    width, length, chunk, pairs, rows, between = (
        task.width, task.length, task.chunk, task.pairs, task.rows, apart(task),
    )  # fmt: skip
    row, line = 2 * pairs + ROOM, chunk + ROOM
    gather(floats(task.u) + first, width, task.batch, length, chunk, channels, scratch.x, between)
    for layer in range(2):
        backwards = layer == 1 and task.bidirectional != 0
        for e in range(channels):
            x, out = scratch.x + e * between, scratch.out + e * between
            fill_tables(task, scratch, layer * width + first + e, 0)
            fill_outward(scratch.powers, scratch.weights, pairs, chunk, scratch.outward)
            turn(scratch.outward, pairs, chunk, backwards, scratch.turned)
            fill_states(task, scratch, x, backwards)
            convolve(rows, chunk, x, scratch.kernels, backwards, out, False)
            product(rows, chunk, 2 * pairs, scratch.states, row, 1, scratch.turned, line, out, line, True)
        y = floats(task.y) + (layer * width + first)
        scatter(scratch.out, between, y, 2 * width, task.batch, length, chunk, channels)


@njit(nogil=True, error_model="numpy", inline="always")
def backward(task):
    scratch, layers, line = scratch_of(task), 2 * task.channels, task.chunk + ROOM
    clear(scratch.x, task.channels * apart(task))
    clear(scratch.of_output, task.channels * apart(task))
    clear(scratch.square, task.chunk * line)
    first = draw(task.blocks_taken) * task.channels
    while first < task.width:
        channels = min(task.channels, task.width - first)
        clear(scratch.lag_sums, layers * line)
        if task.length > task.chunk:
            backward_long(task, scratch, first, channels)
        else:
            backward_short(task, scratch, first, channels)
        first = draw(task.blocks_taken) * task.channels


@njit(nogil=True, error_model="numpy", inline="always")
def backward_short(task, scratch, first, channels):
    width, length, chunk, pairs, between = task.width, task.length, task.chunk, task.pairs, apart(task)
    line = chunk + ROOM
    for layer in range(2):
        for e in range(channels):
            fill_tables(task, scratch, layer * width + first + e, layer * task.channels + e)
    for start in range(0, task.batch, task.panel):
        sequences = min(task.panel, task.batch - start)
        here = start * length * width + first
        gather(floats(task.u) + here, width, sequences, length, chunk, channels, scratch.x, between)
        for layer in range(2):
            backwards = layer == 1 and task.bidirectional != 0
            of_y = floats(task.of_y) + (start * length * 2 * width + layer * width + first)
            gather(of_y, 2 * width, sequences, length, chunk, channels, scratch.of_output, between)
            for e in range(channels):
                slot, panel = layer * task.channels + e, e * between
                kernel = scratch.kernels + slot * 2 * line
                convolve(
                    sequences + sequences % 2, chunk, scratch.of_output + panel, kernel, not backwards,
                    scratch.out + panel, layer == 1,
                )  # fmt: skip
                add_kernel_gradient(scratch, panel, sequences, chunk, backwards, slot)
        scatter(scratch.out, between, floats(task.of_u) + here, width, sequences, length, chunk, channels)
    for layer in range(2):
        for e in range(channels):
            slot = layer * task.channels + e
            fill_powers(scratch.exponentials + slot * 2 * pairs, pairs, chunk, scratch.powers)
            through_kernel(scratch, slot, pairs, chunk)
            to_parameters(task, scratch, layer * width + first + e, slot)


@njit(nogil=True, error_model="numpy", inline="always")
def backward_long(task, scratch, first, channels):
    width, length, chunk, pairs, rows, between = (
        task.width, task.length, task.chunk, task.pairs, task.rows, apart(task),
    )  # fmt: skip
    row, line, chunks = 2 * pairs + ROOM, chunk + ROOM, -(-length // chunk)
    filled = task.batch * chunks
    gather(floats(task.u) + first, width, task.batch, length, chunk, channels, scratch.x, between)
    for layer in range(2):
        backwards = layer == 1 and task.bidirectional != 0
        start, step = ((chunk - 1) * row, -row) if backwards else (0, row)
        of_y = floats(task.of_y) + (layer * width + first)
        gather(of_y, 2 * width, task.batch, length, chunk, channels, scratch.of_output, between)
        for e in range(channels):
            slot, channel, panel = layer * task.channels + e, layer * width + first + e, e * between
            x, of_y, of_u = scratch.x + panel, scratch.of_output + panel, scratch.out + panel
            states, of_states = scratch.states, scratch.of_states
            fill_tables(task, scratch, channel, slot)
            fill_outward(scratch.powers, scratch.weights + slot * 2 * pairs, pairs, chunk, scratch.outward)
            turn(scratch.powers, pairs, chunk, not backwards, scratch.turned)
            fill_states(task, scratch, x, backwards)
            product(rows, 2 * pairs, chunk, of_y, line, 1, scratch.outward + start, step, of_states, row, False)
            through_carry(
                of_states, states, scratch.powers + chunk * row, task.batch, chunks, pairs, backwards, scratch.of_carry
            )  # fmt: skip
            convolve(rows, chunk, of_y, scratch.kernels + slot * 2 * line, not backwards, of_u, layer == 1)
            product(rows, chunk, 2 * pairs, of_states, row, 1, scratch.turned, line, of_u, line, True)
            add_kernel_gradient(scratch, panel, filled, chunk, backwards, slot)
            sum_over_rows(filled, chunk, 2 * pairs, x, line, of_states, row, scratch.of_inward, row)
            sum_over_rows(filled, chunk, 2 * pairs, of_y, line, states, row, scratch.of_outward, row)
            through_kernel(scratch, slot, pairs, chunk)
            through_states(scratch, slot, pairs, chunk, backwards)
            to_parameters(task, scratch, channel, slot)
    scatter(scratch.out, between, floats(task.of_u) + first, width, task.batch, length, chunk, channels)


@njit(nogil=True, error_model="numpy", inline="always")
def add_kernel_gradient(scratch, panel, rows, chunk, backwards, slot):
    """Of input and output the later lies to the right, or to the left if `backwards`."""
    x, of_y = scratch.x + panel, scratch.of_output + panel
    sums = scratch.lag_sums + slot * (chunk + ROOM)
    early, late = (of_y, x) if backwards else (x, of_y)
    add_lag_sums(rows, chunk, early, late, scratch.square, sums)


@njit(nogil=True, error_model="numpy")
def through_kernel(scratch, slot, pairs, chunk):
    """Sets the gradients of w and z to what comes through K_l = Re(sum w a^l)."""
    never_inlined()
    row, zero = 2 * pairs + ROOM, constant(np.float32(0))
    sums = scratch.lag_sums + slot * (chunk + ROOM)
    for s in range(0, pairs, LANES):
        w_re, w_im, m_re, m_im = zero, zero, zero, zero
        for lag in range(chunk):
            power, g, weight = scratch.powers + (lag * row + s), load_one(sums + lag), constant(np.float32(lag))
            e_re, e_im = load(power) * g, zero - load(power + pairs) * g
            w_re, w_im, m_re, m_im = w_re + e_re, w_im + e_im, m_re + weight * e_re, m_im + weight * e_im
        store(scratch.of_w + s, w_re)
        store(scratch.of_w + (pairs + s), w_im)
        z_re, z_im = times_conjugate(m_re, m_im, scratch.weights + (slot * 2 * pairs + s), pairs)
        store(scratch.of_z + s, z_re)
        store(scratch.of_z + (pairs + s), z_im)


@njit(nogil=True, error_model="numpy")
def through_states(scratch, slot, pairs, chunk, backwards):
    """Adds what comes through the powers into the state, through w a^l out of it, and through the carry a^C."""
    never_inlined()
    row, zero = 2 * pairs + ROOM, constant(np.float32(0))
    for s in range(0, pairs, LANES):
        powers, of_carry, weight = scratch.powers + s, scratch.of_carry + s, constant(np.float32(chunk))
        w_re, w_im, m_re, m_im = zero, zero, zero, zero
        z_re, z_im = times_conjugate(load(of_carry), load(of_carry + pairs), powers + chunk * row, pairs)
        z_re, z_im = z_re * weight, z_im * weight
        for i in range(chunk):
            lag, out = chunk - i if backwards else i + 1, scratch.of_outward + (i * row + s)
            weight = constant(np.float32(lag))
            e_re, e_im = times_conjugate(load(out), zero - load(out + pairs), powers + lag * row, pairs)
            w_re, w_im, m_re, m_im = w_re + e_re, w_im + e_im, m_re + weight * e_re, m_im + weight * e_im
            lag, into = i if backwards else chunk - 1 - i, scratch.of_inward + (i * row + s)
            weight = constant(np.float32(lag))
            f_re, f_im = times_conjugate(load(into), load(into + pairs), powers + lag * row, pairs)
            z_re, z_im = z_re + weight * f_re, z_im + weight * f_im
        e_re, e_im = times_conjugate(m_re, m_im, scratch.weights + (slot * 2 * pairs + s), pairs)
        of_w, of_z = scratch.of_w + s, scratch.of_z + s
        store(of_w, load(of_w) + w_re)
        store(of_w + pairs, load(of_w + pairs) + w_im)
        store(of_z, load(of_z) + (z_re + e_re))
        store(of_z + pairs, load(of_z + pairs) + (z_im + e_im))


@njit(nogil=True, error_model="numpy")
def times_conjugate(re, im, table, pairs):
    """Times the conjugate of eight complex numbers of a table."""
    t_re, t_im = load(table), load(table + pairs)
    return re * t_re + im * t_im, im * t_re - re * t_im


@njit(nogil=True, error_model="numpy")
def to_parameters(task, scratch, channel, slot):
    never_inlined()
    first = channel * task.stored_pairs
    floats(task.of_skip)[channel] = scratch.lag_sums[slot * (task.chunk + ROOM)]
    floats(task.of_log_dt)[channel] = through_discretisation(
        floats(task.log_dt)[channel], floats(task.log_decay) + first, floats(task.frequency) + first,
        floats(task.c) + 2 * first, task.stored_pairs, task.pairs, scratch.of_z, scratch.of_w,
        floats(task.of_log_decay) + first, floats(task.of_frequency) + first, floats(task.of_c) + 2 * first,
    )  # fmt: skip
