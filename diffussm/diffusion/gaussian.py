"""The Gaussian diffusion process on tensors: q, its posterior, p as predicted by a network, and the losses.

The network predicts the noise and, if the variance is learned, v in [-1, 1], which interpolates the log-variance
between log beta~_t and log beta_t (Nichol and Dhariwal 2021, eq. 15); v is not clamped. Images are in [-1, 1].
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from diffussm.config import DiffusionConfig
from diffussm.diffusion.schedule import Array, Schedule


class Prediction(NamedTuple):
    """A network's prediction for a step, all (B, C, H, W); a variance that is not learned is (B, 1, 1, 1)."""

    noise: Tensor  # implied by x0 if that is clipped
    x0: Tensor
    mean: Tensor  # of p(x_(t-1) | x_t)
    log_variance: Tensor


class Losses(NamedTuple):
    """Losses per sample (B,): `total` is minimised."""

    total: Tensor
    mse: Tensor
    bound: Tensor  # the term L_t of the variational bound in bits per dimension; 0 if the variance is not learned


class GaussianDiffusion:
    """q and p for one schedule. `index` (B,) counts the schedule's own steps; the network sees `timesteps[index]`."""

    def __init__(
        self,
        schedule: Schedule,
        config: DiffusionConfig,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ):
        def table(values: Array) -> Tensor:
            return torch.as_tensor(values, dtype=dtype, device=device)

        x0_weight, xt_weight = schedule.posterior_mean_weights
        alpha_bars = schedule.alpha_bars
        self.learned_variance = config.learned_variance
        self.normal_cdf = NORMAL_CDF[config.normal_cdf]
        self.steps = len(schedule)
        self.timesteps = torch.as_tensor(schedule.timesteps, device=device)
        self.signal, self.noise = table(np.sqrt(alpha_bars)), table(np.sqrt(1 - alpha_bars))
        self.inverse_signal, self.noise_ratio = table(np.sqrt(1 / alpha_bars)), table(np.sqrt(1 / alpha_bars - 1))
        self.x0_weight, self.xt_weight = table(x0_weight), table(xt_weight)
        self.log_beta, self.log_posterior = table(np.log(schedule.betas)), table(schedule.posterior_log_variance)
        self.posterior_variance = table(schedule.posterior_variance)
        self.previous_alpha_bars = table(schedule.previous_alpha_bars)

    def add_noise(self, x0: Tensor, index: Tensor, noise: Tensor) -> Tensor:
        """Return x_t ~ q(x_t | x_0)."""
        return _at(self.signal, index) * x0 + _at(self.noise, index) * noise

    def posterior_mean(self, x0: Tensor, xt: Tensor, index: Tensor) -> Tensor:
        """Return the mean of q(x_(t-1) | x_t, x_0)."""
        return _at(self.x0_weight, index) * x0 + _at(self.xt_weight, index) * xt

    def predict(self, output: Tensor, xt: Tensor, index: Tensor, clip: bool = False) -> Prediction:
        """Return the prediction in a network output (B, C or 2C, H, W); `clip` clamps the implied image to [-1, 1]."""
        if self.learned_variance:
            noise, v = output.chunk(2, dim=1)
            fraction = (v + 1) / 2
            log_variance = fraction * _at(self.log_beta, index) + (1 - fraction) * _at(self.log_posterior, index)
        else:
            noise, log_variance = output, _at(self.log_posterior, index)
        x0 = _at(self.inverse_signal, index) * xt - _at(self.noise_ratio, index) * noise
        if clip:
            x0 = x0.clamp(-1, 1)
            noise = (_at(self.inverse_signal, index) * xt - x0) / _at(self.noise_ratio, index)
        return Prediction(noise, x0, self.posterior_mean(x0, xt, index), log_variance)

    def losses(self, output: Tensor, x0: Tensor, xt: Tensor, index: Tensor, noise: Tensor) -> Losses:
        """Return the mean squared error of the noise plus the term of the bound, which trains the variance only."""
        predicted = output[:, : noise.shape[1]]
        mse = (predicted - noise).square().flatten(1).mean(1)
        if not self.learned_variance:
            return Losses(mse, mse, torch.zeros_like(mse))
        frozen = torch.cat([predicted.detach(), output[:, noise.shape[1] :]], dim=1)
        bound = self.bound_term(self.predict(frozen, xt, index), x0, xt, index)
        return Losses(mse + bound, mse, bound)

    def bound_term(self, p: Prediction, x0: Tensor, xt: Tensor, index: Tensor) -> Tensor:
        """Return L_t in bits per dimension (B,): KL(q(x_(t-1) | x_t, x_0) || p); at step 0, -log p(x_0) of 8-bit
        images."""
        log_variance = p.log_variance.expand_as(x0)
        kl = _gaussian_kl(self.posterior_mean(x0, xt, index), _at(self.log_posterior, index), p.mean, log_variance)
        likelihood = discretised_log_likelihood(x0, p.mean, log_variance, self.normal_cdf)
        nats = torch.where((index == 0)[:, None], -likelihood.flatten(1), kl.flatten(1))
        return nats.mean(1) / math.log(2)


def tanh_normal_cdf(x: Tensor) -> Tensor:
    """Return the normal distribution function in the tanh form of GELU, to within 1.8e-4, as ADM and DiT use it."""
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


NORMAL_CDF: dict[str, Callable[[Tensor], Tensor]] = {"exact": torch.special.ndtr, "tanh": tanh_normal_cdf}


def discretised_log_likelihood(
    x0: Tensor, mean: Tensor, log_variance: Tensor, normal_cdf: Callable[[Tensor], Tensor] = torch.special.ndtr
) -> Tensor:
    """Return the log probability of each x0's bin of width 2/255 under N(mean, variance) (Ho et al. 2020, eq. 13).

    The bins at -1 and 1 extend to infinity; probabilities are clamped to at least 1e-12.
    """
    half_bin, scale = 1 / 255, torch.exp(-0.5 * log_variance)
    upper = normal_cdf((x0 - mean + half_bin) * scale)
    lower = normal_cdf((x0 - mean - half_bin) * scale)
    upper = torch.where(x0 > 0.999, 1.0, upper)
    lower = torch.where(x0 < -0.999, 0.0, lower)
    return (upper - lower).clamp_min(1e-12).log()


def _gaussian_kl(mean_q: Tensor, log_variance_q: Tensor, mean_p: Tensor, log_variance_p: Tensor) -> Tensor:
    """Return elementwise KL(q || p) of diagonal Gaussians, in nats."""
    difference = log_variance_p - log_variance_q
    return 0.5 * (difference - 1 + torch.exp(-difference) + (mean_q - mean_p).square() * torch.exp(-log_variance_p))


def _at(table: Tensor, index: Tensor) -> Tensor:
    """Return entries of a per-step table, shaped (B, 1, 1, 1)."""
    return table[index][:, None, None, None]
