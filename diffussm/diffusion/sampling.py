"""Samplers: DDPM at any respacing, DDIM without noise, fast solvers, classifier-free guidance.

All noise is handed in by the caller, so that a sample depends on its own draws only, whatever the batch.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from diffussm.config import DiffusionConfig
from diffussm.diffusion.gaussian import GaussianDiffusion, Prediction
from diffussm.diffusion.schedule import Schedule, ddim_steps, ddpm_steps, linear_schedule, respace

Network = Callable[[Tensor, Tensor, Tensor], Tensor]  # (x_t, t, y) -> output
Noise = Callable[[int], Tensor]  # step -> (B, C, H, W); step 0 is x_T
Sampler = Callable[[Network, Tensor, Noise], Tensor]  # (network, labels (B,), noise) -> images (B, C, H, W)


def training_schedule(config: DiffusionConfig) -> Schedule:
    return linear_schedule(config.timesteps)


def sampling_schedule(config: DiffusionConfig, sampler: str, steps: int) -> Schedule:
    """The training schedule respaced as `sampler` (ddpm | ddim) does it."""
    kept = ddim_steps if sampler == "ddim" else ddpm_steps
    return respace(training_schedule(config), kept(config.timesteps, steps))


def guided(network: Network, scale: float, classes: int, channels: int) -> Network:
    """Classifier-free guidance (Ho and Salimans 2022): noise eps_0 + scale (eps_y - eps_0), eps_0 without a class.

    Scale 1 calls the network once; any other on a batch of twice the size. Only the first `channels` of the output are
    guided (DiT guides 3 of its 4 channels of noise); the others, and the variance, are the conditional ones.
    """
    if scale == 1:
        return network

    def call(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        none = torch.full_like(y, classes)
        with_class, without = network(torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, none])).chunk(2)
        noise, unconditional = with_class[:, :channels], without[:, :channels]
        return torch.cat([unconditional + scale * (noise - unconditional), with_class[:, channels:]], dim=1)

    return call


def make_sampler(
    config: DiffusionConfig,
    name: str,
    steps: int,
    clip: bool,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Sampler:
    """The sampler `name` (ddpm | ddim | dpm-solver++ | unipc) of so many steps, each one call of the network.

    `clip` clamps the predicted image to [-1, 1] at each step.
    """
    if name in ("ddpm", "ddim"):
        diffusion = GaussianDiffusion(sampling_schedule(config, name, steps), config, device, dtype)
        update = _ddim_step if name == "ddim" else _ddpm_step
        return lambda network, labels, noise: _ancestral(diffusion, update, clip, network, labels, noise)
    from diffussm.diffusion.solvers import solve, solver

    schedule = training_schedule(config)
    whole = GaussianDiffusion(schedule, config, device, dtype)
    solver(name, schedule, steps)  # missing or refused: now, not after the first batch
    return lambda network, labels, noise: solve(whole, solver(name, schedule, steps), clip, network, labels, noise)


Update = Callable[[GaussianDiffusion, Prediction, int, Callable[[], Tensor]], Tensor]


@torch.no_grad()
def _ancestral(
    diffusion: GaussianDiffusion, update: Update, clip: bool, network: Network, labels: Tensor, noise: Noise
) -> Tensor:
    """From x_T down all of the diffusion's steps."""
    x = noise(0)
    for taken, step in enumerate(reversed(range(diffusion.steps)), start=1):
        index = torch.full_like(labels, step)
        prediction = diffusion.predict(network(x, diffusion.timesteps[index], labels), x, index, clip)
        x = update(diffusion, prediction, step, partial(noise, taken))
    return x


def _ddpm_step(_: GaussianDiffusion, p: Prediction, step: int, noise: Callable[[], Tensor]) -> Tensor:
    """A draw of p(x_(t-1) | x_t); at step 0 its mean (Ho et al. 2020, algorithm 2)."""
    return p.mean + torch.exp(0.5 * p.log_variance) * noise() if step > 0 else p.mean


def _ddim_step(d: GaussianDiffusion, p: Prediction, step: int, _: Callable[[], Tensor]) -> Tensor:
    """Song et al. 2021, eq. 12 at eta = 0, with the noise that the (clipped) image implies."""
    previous = d.previous_alpha_bars[step]
    return previous.sqrt() * p.x0 + (1 - previous).sqrt() * p.noise
