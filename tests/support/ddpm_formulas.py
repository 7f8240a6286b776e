"""ADM's diffusion process by its published formulas, in float64; nothing in here comes from the code under test.

q is Ho et al. 2020; respacing, the range of the variance and the bound are Nichol and Dhariwal 2021; DDIM's stride is
Song et al. 2021. Alpha-bars are exact fractions until they are rounded once; posteriors come from Bayes' rule.
"""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import accumulate, pairwise
from operator import mul
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import norm

from diffussm.config import DiffusionConfig

Array = NDArray[np.float64]

T = 1000
FIRST, LAST = Fraction(1, 10_000), Fraction(2, 100)  # the linear schedule's betas
BETAS = [FIRST + (LAST - FIRST) * Fraction(t, T - 1) for t in range(T)]
ALPHA_BARS = list(accumulate((1 - beta for beta in BETAS), mul))

LEARNED, FIXED = DiffusionConfig(), DiffusionConfig(learned_variance=False, loss="simple")
TANH = DiffusionConfig(normal_cdf="tanh")


def adm_steps(count: int) -> list[int]:
    """The timesteps of ADM's '<count>', in exact fractions, half rounded to even."""
    return [round(Fraction(T - 1, count - 1) * k) for k in range(count)]


WHOLE, ADM_250, ADM_50, DDIM_50 = range(T), adm_steps(250), adm_steps(50), range(0, T, 20)


def exact_cdf(x: Array) -> Array:
    return norm.cdf(x)


def tanh_cdf(x: Array) -> Array:
    return 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


class Prediction(NamedTuple):
    """A network output read at a step."""

    noise: Array
    x0: Array
    mean: Array
    log_variance: Array


class Process:
    """The process that visits the timesteps `kept`; arrays (S,), and k, count its own steps."""

    def __init__(self, kept: Sequence[int] = WHOLE):
        bars = [ALPHA_BARS[t] for t in kept]
        self.timesteps = list(kept)
        self.bars = np.array([float(bar) for bar in bars])
        self.remaining = np.array([float(1 - bar) for bar in bars])
        ratios = [math.prod(1 - beta for beta in BETAS[a + 1 : b + 1]) for a, b in pairwise([-1, *kept])]
        self.betas = np.array([float(1 - ratio) for ratio in ratios])  # ratios of neighbouring alpha-bars
        self.bars_before = np.append(1.0, self.bars[:-1])
        self.remaining_before = np.append(0.0, self.remaining[:-1])
        # q(x_(k-1) | x_k, x_0) is the product of N(x_k; sqrt(1 - beta) x_(k-1), beta) and of
        # N(x_(k-1); sqrt(bar_before) x_0, remaining_before): precisions add, means are weighted by them.
        weight = self.betas + (1 - self.betas) * self.remaining_before
        self.variance = self.betas * self.remaining_before / weight
        self.x0_weight = np.sqrt(self.bars_before) * self.betas / weight
        self.xt_weight = np.sqrt(1 - self.betas) * self.remaining_before / weight
        self.log_variance = np.log(np.append(self.variance[1], self.variance[1:]))  # the first is 0: the second's

    def noisy(self, x0: Array, k: int, noise: Array) -> Array:
        return np.sqrt(self.bars[k]) * x0 + np.sqrt(self.remaining[k]) * noise

    def posterior_mean(self, x0: Array, xt: Array, k: int) -> Array:
        return self.x0_weight[k] * x0 + self.xt_weight[k] * xt

    def read(self, output: Array, xt: Array, k: int, learned: bool = True, clip: bool = False) -> Prediction:
        """The noise and, if learned, v, halves of the output's channels."""
        noise, v = np.split(output, 2, axis=1) if learned else (output, -np.ones_like(output))
        x0 = (xt - np.sqrt(self.remaining[k]) * noise) / np.sqrt(self.bars[k])
        if clip:
            x0 = np.clip(x0, -1, 1)
            noise = (xt - np.sqrt(self.bars[k]) * x0) / np.sqrt(self.remaining[k])
        log_variance = (v + 1) / 2 * np.log(self.betas[k]) + (1 - v) / 2 * self.log_variance[k]
        return Prediction(noise, x0, self.posterior_mean(x0, xt, k), log_variance)

    def bound(self, p: Prediction, x0: Array, xt: Array, k: int, cdf: Callable[[Array], Array] = exact_cdf) -> Array:
        """L_k in bits per dimension (B,): at k = 0 the negative log-likelihood of 8-bit images, else the divergence
        of the Gaussian p from the posterior."""
        if k == 0:
            deviation = np.exp(p.log_variance / 2)
            upper = np.where(x0 > 0.999, 1, cdf((x0 + 1 / 255 - p.mean) / deviation))
            lower = np.where(x0 < -0.999, 0, cdf((x0 - 1 / 255 - p.mean) / deviation))
            nats = -np.log(np.maximum(upper - lower, 1e-12))
        else:
            variance, distance = np.exp(p.log_variance), self.posterior_mean(x0, xt, k) - p.mean
            nats = (np.log(variance / self.variance[k]) + (self.variance[k] + distance**2) / variance - 1) / 2
        return nats.mean((1, 2, 3)) / math.log(2)


class GaussianData(NamedTuple):
    """Data distributed as N(mean, deviation^2), of which every noisy version and the best denoiser are known."""

    mean: float
    deviation: float

    def variance_at(self, bar: Array | float, remaining: Array | float) -> Array | float:
        """Of x_t."""
        return bar * self.deviation**2 + remaining

    def output(self, process: Process, x: Array, k: Array | int, learned: bool) -> Array:
        """The best noise; with it v of the exact reverse variance: the posterior's, and what x_0 leaves open."""
        bar, remaining, before = process.bars[k], process.remaining[k], process.variance[k]
        total = self.variance_at(bar, remaining)
        noise = np.sqrt(remaining) / total * (x - np.sqrt(bar) * self.mean)
        if not learned:
            return noise
        variance = before + process.x0_weight[k] ** 2 * self.deviation**2 * remaining / total
        share = (np.log(variance) - process.log_variance[k]) / (np.log(process.betas[k]) - process.log_variance[k])
        return np.concatenate([noise, np.broadcast_to(2 * share - 1, noise.shape)], axis=1)


Network = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def as_network(output: Callable[[Array, int, Array], Array], calls: list[int] | None = None) -> Network:
    """A function of (x, t, y) in NumPy as a network; it notes the timesteps at which it is called."""

    def network(x: torch.Tensor, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        assert (t == t[0]).all()
        if calls is not None:
            calls.append(int(t[0]))
        return torch.from_numpy(output(x.numpy(), int(t[0]), y.numpy()))

    return network
