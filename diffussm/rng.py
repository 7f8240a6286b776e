"""Counter-based randomness: every draw is a function of (seed, stream, step, sample index).

The generator is NumPy's Philox 4x64 (Salmon et al. 2011), keyed by (seed, stream), with its counter set to (step,
sample). No state is carried from draw to draw, so a resumed run, a run on another number of processes and one with
another batch size see the same numbers. Each sample owns a whole number of Philox blocks, so a batch of consecutive
samples is one contiguous draw.
"""

import functools
import math
import zlib
from enum import IntEnum
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

_WORDS_PER_BLOCK = 4


class Stream(IntEnum):
    """The purpose of a draw. The numbers are part of the trajectory: never reuse or renumber one."""

    INIT = 0  # the step is `name_hash` of the parameter
    ORDER = 1  # the step is the epoch
    CROP = 2
    FLIP = 3
    NOISE = 4
    TIMESTEP = 5
    LABEL_DROP = 6
    POSTERIOR = 7  # latents drawn from a variational autoencoder's posterior
    SAMPLE_LABEL = 8
    SAMPLE_NOISE = 9  # step 0: x_T; step k: the noise that the k-th sampler step adds
    FLOOR = 10  # real images drawn for a metric's noise floor
    GROUPS = 11  # groups of the jackknife
    EXTRAPOLATION = 12  # subsets of samples; the step is the number of the subset
    REFERENCE = 13  # images of a data set that represent it in a reference file
    HELD_OUT = 14  # images of a data set that an extractor is tested with


def random_words(seed: int, stream: Stream, step: int, start: int, count: int, per_sample: int) -> NDArray[np.uint64]:
    """Return random 64-bit words (count, per_sample) of the samples start .. start + count - 1."""
    blocks = -(-per_sample // _WORDS_PER_BLOCK)
    philox = np.random.Philox(key=[seed, int(stream)], counter=[start * blocks, 0, step, 0])
    drawn = philox.random_raw(count * blocks * _WORDS_PER_BLOCK)
    return drawn.reshape(count, blocks * _WORDS_PER_BLOCK)[:, :per_sample]


def uniform(
    seed: int, stream: Stream, step: int, start: int, count: int, shape: tuple[int, ...] = ()
) -> NDArray[np.float64]:
    """Return numbers uniform on [0, 1), of 53 bits: (count, *shape)."""
    drawn = random_words(seed, stream, step, start, count, math.prod(shape))
    return ((drawn >> np.uint64(11)).astype(np.float64) * 2.0**-53).reshape(count, *shape)


def integers(seed: int, stream: Stream, step: int, start: int, count: int, high: int) -> NDArray[np.int64]:
    """Return uniform integers of 0 .. high - 1: (count,)."""
    return (uniform(seed, stream, step, start, count) * high).astype(np.int64)


def normal(
    seed: int, stream: Stream, step: int, start: int, count: int, shape: tuple[int, ...] = ()
) -> NDArray[np.float32]:
    """Return standard normal numbers by Box and Muller (1958), computed in float64: (count, *shape) float32."""
    size = math.prod(shape)
    pairs = -(-size // 2)
    u = uniform(seed, stream, step, start, count, (2, pairs))
    radius = np.sqrt(-2.0 * np.log1p(-u[:, 0]))
    angle = 2.0 * np.pi * u[:, 1]
    drawn = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)[:, :size]
    return drawn.astype(np.float32).reshape(count, *shape)


def quantile_normal(
    seed: int, stream: Stream, step: int, start: int, count: int, shape: tuple[int, ...] = ()
) -> NDArray[np.float32]:
    """Return normal numbers of mean 0 and variance 1 that take 2^16 values, equally likely: (count, *shape) float32.

    A number is the normal quantile of 16 random bits, which a table holds: a quarter of the random words of `normal`,
    no function to compute, and the same bits on every machine. The largest is 4.32.
    """
    size = math.prod(shape)
    words = random_words(seed, stream, step, start, count, -(-size // 4))
    drawn = np.ascontiguousarray(words).astype("<u8", copy=False).view("<u2")[:, :size]
    return normal_quantiles()[drawn].reshape(count, *shape)


@functools.cache
def normal_quantiles() -> NDArray[np.float32]:
    """Return the quantiles of (i + 1/2) / 2^16, scaled to variance 1: (65536,) float32."""
    quantile = NormalDist().inv_cdf
    upper = np.array([quantile((i + 0.5) / 2**16) for i in range(2**15, 2**16)])
    upper /= np.sqrt(np.mean(upper**2))
    return np.concatenate([-upper[::-1], upper]).astype(np.float32)


def permutation(seed: int, epoch: int, size: int) -> NDArray[np.int64]:
    """Return the order in which an epoch visits `size` training images: (size,)."""
    return np.argsort(random_words(seed, Stream.ORDER, epoch, 0, 1, size)[0], kind="stable")


def name_hash(name: str) -> int:
    """Return a hash of a parameter's name, a counter with which its initial value depends on no other parameter."""
    return zlib.crc32(name.encode())
