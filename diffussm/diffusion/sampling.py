"""Samplers: DDPM at any respacing, deterministic DDIM, fast solvers, classifier-free guidance.

The caller supplies all noise, so that a sample depends on its own draws only, whatever the batch.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from diffussm.config import DiffusionConfig
from diffussm.diffusion.gaussian import GaussianDiffusion, Prediction
from diffussm.diffusion.schedule import Schedule, ddim_steps, ddpm_steps, linear_schedule, respace
from diffussm.stopping import StopRequest

Network = Callable[[Tensor, Tensor, Tensor], Tensor]  # (x_t, t, y) -> output
Noise = Callable[[int], Tensor]  # step -> (B, C, H, W); step 0 is x_T
Sampler = Callable[[Network, Tensor, Noise], Tensor]  # (network, labels (B,), noise) -> images (B, C, H, W)


def training_schedule(config: DiffusionConfig) -> Schedule:
    """Return the schedule that the model is trained with."""
    return linear_schedule(config.timesteps)


def sampling_schedule(config: DiffusionConfig, sampler: str, steps: int) -> Schedule:
    """Return the training schedule respaced for `sampler` (ddpm | ddim)."""
    kept = ddim_steps if sampler == "ddim" else ddpm_steps
    return respace(training_schedule(config), kept(config.timesteps, steps))


def guided(network: Network, scale: float, classes: int, channels: int) -> Network:
    """Return the network under classifier-free guidance (Ho and Salimans 2022): noise eps_0 + scale (eps_y - eps_0),
    where eps_0 is predicted without a class.

    With a scale of 1 the network is used as it is; otherwise it is called on a batch of twice the size. Only the first
    `channels` of the output are guided (DiT guides 3 of its 4 noise channels); the others, and the variance, are the
    conditional ones.
    """
    if scale == 1:
        return network

    def call(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        no_class = torch.full_like(y, classes)
        output, without_class = network(torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, no_class])).chunk(2)
        conditional, unconditional = output[:, :channels], without_class[:, :channels]
        return torch.cat([unconditional + scale * (conditional - unconditional), output[:, channels:]], dim=1)

    return call


def make_sampler(
    config: DiffusionConfig,
    name: str,
    steps: int,
    clip: bool,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    stop: StopRequest | None = None,
    ddim_eta: float = 0.0,
) -> Sampler:
    """Return the sampler `name` (ddpm | ddim | dpm-solver++ | unipc) with `steps` steps of one network call each.

    `clip` clamps the predicted image to [-1, 1] at each step; `ddim_eta` is the noise that ddim adds. The sampler polls
    `stop` between steps, and raises Stopped once it is set.
    """
    stop = stop or StopRequest()
    if name in ("ddpm", "ddim"):
        diffusion = GaussianDiffusion(sampling_schedule(config, name, steps), config, device, dtype)
        update = partial(_ddim_step, ddim_eta) if name == "ddim" else _ddpm_step
        return lambda network, labels, noise: _ancestral(diffusion, update, clip, stop, network, labels, noise)
    from diffussm.diffusion.solvers import solve, solver

    schedule = training_schedule(config)
    full_diffusion = GaussianDiffusion(schedule, config, device, dtype)
    solver(name, schedule, steps)  # raises here, not in the first batch, if it is missing or does not fit

    def sample(network: Network, labels: Tensor, noise: Noise) -> Tensor:
        return solve(full_diffusion, solver(name, schedule, steps), clip, stop, network, labels, noise)

    return sample


Update = Callable[[GaussianDiffusion, Prediction, int, Callable[[], Tensor]], Tensor]


@torch.no_grad()
def _ancestral(
    diffusion: GaussianDiffusion,
    update: Update,
    clip: bool,
    stop: StopRequest,
    network: Network,
    labels: Tensor,
    noise: Noise,
) -> Tensor:
    """Return images (B, C, H, W), made from x_T = noise(0) by all steps of the diffusion in reverse."""
    x = noise(0)
    for taken, step in enumerate(reversed(range(diffusion.steps)), start=1):
        stop.check()
        index = torch.full_like(labels, step)
        prediction = diffusion.predict(network(x, diffusion.timesteps[index], labels), x, index, clip)
        x = update(diffusion, prediction, step, partial(noise, taken))
    return x


def _ddpm_step(_: GaussianDiffusion, p: Prediction, step: int, noise: Callable[[], Tensor]) -> Tensor:
    """Return a draw of p(x_(t-1) | x_t), or its mean at step 0 (Ho et al. 2020, algorithm 2)."""
    return p.mean + torch.exp(0.5 * p.log_variance) * noise() if step > 0 else p.mean


def _ddim_step(eta: float, d: GaussianDiffusion, p: Prediction, step: int, noise: Callable[[], Tensor]) -> Tensor:
    """Return x_(t-1) by eq. 12 and 16 of Song et al. 2021, with the noise that the (clipped) image implies."""
    previous, variance = d.previous_alpha_bars[step], eta**2 * d.posterior_variance[step]
    mean = previous.sqrt() * p.x0 + (1 - previous - variance).sqrt() * p.noise
    return mean + variance.sqrt() * noise() if eta and step > 0 else mean
