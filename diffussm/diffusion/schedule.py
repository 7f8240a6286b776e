"""Noise schedules and their respacing, in float64 NumPy.

q(x_t | x_(t-1)) = N(sqrt(1 - beta_t) x_(t-1), beta_t); alpha_bar_t = prod_(s <= t) (1 - beta_s) (Ho et al. 2020). A
respaced schedule keeps some of the timesteps and has the betas that give the same alpha_bar at them (Nichol and
Dhariwal 2021). Timesteps count from 0.
"""

from dataclasses import dataclass
from itertools import accumulate, repeat

import numpy as np
from numpy.typing import NDArray

from diffussm.errors import UserError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Schedule:
    """Betas (S,) of the kept steps and the timesteps (S,) at which the network is called for them."""

    betas: Array
    timesteps: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.betas)

    @property
    def alpha_bars(self) -> Array:
        return np.cumprod(1.0 - self.betas, dtype=np.float64)

    @property
    def previous_alpha_bars(self) -> Array:
        return np.append(1.0, self.alpha_bars[:-1])

    @property
    def posterior_variance(self) -> Array:
        """Return beta~_t, the variance of q(x_(t-1) | x_t, x_0); 0 at t = 0."""
        return self.betas * (1.0 - self.previous_alpha_bars) / (1.0 - self.alpha_bars)

    @property
    def posterior_log_variance(self) -> Array:
        """Return log beta~_t; at t = 0, where beta~ is 0, the value of t = 1, or log beta in a schedule of one step."""
        first, *_ = self.posterior_variance[1:2] if len(self) > 1 else self.betas
        return np.log(np.append(first, self.posterior_variance[1:]))

    @property
    def posterior_mean_weights(self) -> tuple[Array, Array]:
        """Return the weights of x_0 and of x_t in the mean of q(x_(t-1) | x_t, x_0)."""
        noise_variance = 1.0 - self.alpha_bars
        x0_weight = self.betas * np.sqrt(self.previous_alpha_bars) / noise_variance
        xt_weight = (1.0 - self.previous_alpha_bars) * np.sqrt(1.0 - self.betas) / noise_variance
        return x0_weight, xt_weight


def linear_schedule(timesteps: int) -> Schedule:
    """Return betas from 1e-4 to 0.02 for T = 1000, scaled by 1000 / T for other T, so that x_T is equally noisy."""
    scale = 1000 / timesteps
    return Schedule(np.linspace(scale * 1e-4, scale * 0.02, timesteps), np.arange(timesteps))


def respace(schedule: Schedule, kept: NDArray[np.int64]) -> Schedule:
    """Return the schedule that visits only the steps `kept` (increasing indices), with the same alpha_bar at each."""
    alpha_bars = schedule.alpha_bars[kept]
    betas = 1.0 - alpha_bars / np.append(1.0, alpha_bars[:-1])
    return Schedule(betas, schedule.timesteps[kept])


def ddpm_steps(timesteps: int, count: int) -> NDArray[np.int64]:
    """Return `count` steps from the first to the last, evenly spaced and rounded: 50 of 1000 are 0, 20, 41, ..., 999.

    The stride is accumulated, as in ADM's code, so that a place half-way between two steps is rounded as there.
    """
    if not 1 <= count <= timesteps:
        raise UserError(f"evaluation.sampler_steps = {count}: must be between 1 and {timesteps}")
    stride = (timesteps - 1) / (count - 1) if count > 1 else 1.0
    return np.array([round(place) for place in accumulate(repeat(stride, count - 1), initial=0.0)], dtype=np.int64)


def ddim_steps(timesteps: int, count: int) -> NDArray[np.int64]:
    """Return `count` steps at DDIM's constant stride: 50 of 1000 are 0, 20, ..., 980."""
    if not 1 <= count <= timesteps or timesteps % count:
        raise UserError(f"evaluation.sampler_steps = {count}: must divide the {timesteps} timesteps, as ddim needs")
    return np.arange(0, timesteps, timesteps // count)
