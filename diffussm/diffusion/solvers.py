"""Fast solvers of the sampling ODE: Diffusers' schedulers, from the extra `samplers`, which is imported on first use.

DPM-Solver++ (Lu et al. 2022, arXiv 2211.01095; multistep, second order) and UniPC (Zhao et al. 2023, arXiv 2302.04867;
second order). Both use no noise but x_T and call the network once per step, at evenly spaced timesteps of the training
schedule, from the last one down.
"""

from typing import Any

import torch
from torch import Tensor

from diffussm.diffusion.gaussian import GaussianDiffusion
from diffussm.diffusion.schedule import Schedule
from diffussm.errors import UserError
from diffussm.stopping import StopRequest


def solver(name: str, schedule: Schedule, steps: int) -> Any:
    """Return Diffusers' scheduler `name` with this schedule's betas and `steps` steps; UserError without Diffusers.

    With as many steps as timesteps it would visit one of them twice and divide by a log-SNR difference of 0.
    """
    if not 1 <= steps < len(schedule):
        limit = len(schedule) - 1
        raise UserError(f"evaluation.sampler_steps = {steps}: must be between 1 and {limit}, as {name} needs")
    try:
        from diffusers import DPMSolverMultistepScheduler, UniPCMultistepScheduler
    except ImportError as error:
        raise UserError(f"evaluation.sampler = {name}: needs Diffusers, the extra `samplers` ({error})") from None
    shared: dict[str, Any] = {
        "num_train_timesteps": len(schedule),
        "trained_betas": schedule.betas,
        "prediction_type": "sample",  # `solve` passes the predicted image, clipped if requested
    }
    scheduler: Any
    match name:
        case "dpm-solver++":
            scheduler = DPMSolverMultistepScheduler(**shared, algorithm_type="dpmsolver++", solver_order=2)
        case "unipc":
            scheduler = UniPCMultistepScheduler(**shared, solver_order=2)
        case _:
            raise ValueError(f"unknown solver {name!r}")
    scheduler.set_timesteps(steps)
    return scheduler


@torch.no_grad()
def solve(
    diffusion: GaussianDiffusion,
    scheduler: Any,
    clip: bool,
    stop: StopRequest,
    network: Any,
    labels: Tensor,
    noise: Any,
) -> Tensor:
    """Return images (B, C, H, W), made from x_T = noise(0) by a new scheduler; `diffusion` is that of training."""
    x = noise(0)
    for t in scheduler.timesteps:
        stop.check()
        index = torch.full_like(labels, int(t))
        prediction = diffusion.predict(network(x, diffusion.timesteps[index], labels), x, index, clip)
        x = scheduler.step(prediction.x0, t, x).prev_sample
    return x
