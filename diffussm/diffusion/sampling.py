"""Samplers: DDPM at any respacing, DDIM without noise, classifier-free guidance.

All noise is handed in by the caller, so that a sample depends on its own draws only, whatever the batch.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from diffussm.config import DiffusionConfig
from diffussm.diffusion.gaussian import GaussianDiffusion, Prediction
from diffussm.diffusion.schedule import Schedule, ddim_steps, ddpm_steps, linear_schedule, respace

Network = Callable[[Tensor, Tensor, Tensor], Tensor]  # (x_t, t, y) -> output
Noise = Callable[[int], Tensor]  # step -> (B, C, H, W); step 0 is x_T


def training_schedule(config: DiffusionConfig) -> Schedule:
    return linear_schedule(config.timesteps)


def sampling_schedule(config: DiffusionConfig, sampler: str, steps: int) -> Schedule:
    """The training schedule respaced as `sampler` (ddpm | ddim) does it."""
    kept = ddim_steps if sampler == "ddim" else ddpm_steps
    return respace(training_schedule(config), kept(config.timesteps, steps))


def guided(network: Network, scale: float, classes: int, channels: int) -> Network:
    """Classifier-free guidance (Ho and Salimans 2022): noise eps_0 + scale (eps_y - eps_0), eps_0 without a class.

    Scale 1 calls the network once; any other on a batch of twice the size. The variance is the conditional one.
    """
    if scale == 1:
        return network

    def call(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        none = torch.full_like(y, classes)
        with_class, without = network(torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, none])).chunk(2)
        noise, unconditional = with_class[:, :channels], without[:, :channels]
        return torch.cat([unconditional + scale * (noise - unconditional), with_class[:, channels:]], dim=1)

    return call


@torch.no_grad()
def sample(
    diffusion: GaussianDiffusion, network: Network, labels: Tensor, noise: Noise, sampler: str, clip: bool
) -> Tensor:
    """Images (B, C, H, W), one per label, after all of the diffusion's steps."""
    x = noise(0)
    for taken, step in enumerate(reversed(range(diffusion.steps)), start=1):
        index = torch.full_like(labels, step)
        output = network(x, diffusion.timesteps[index], labels)
        prediction = diffusion.predict(output, x, index, clip)
        if sampler == "ddim":
            x = _ddim_step(diffusion, prediction, x, step)
        else:
            x = prediction.mean
            if step > 0:
                x = x + torch.exp(0.5 * prediction.log_variance) * noise(taken)
    return x


def _ddim_step(d: GaussianDiffusion, p: Prediction, x: Tensor, step: int) -> Tensor:
    """Song et al. 2021, eq. 12 at eta = 0, with the noise that the (clipped) image implies."""
    implied = (d.inverse_signal[step] * x - p.x0) / d.noise_ratio[step]
    previous = d.previous_alpha_bars[step]
    return previous.sqrt() * p.x0 + (1 - previous).sqrt() * implied
