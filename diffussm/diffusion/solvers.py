"""Fast solvers of the sampling ODE, by Diffusers' schedulers: the extra `samplers`, imported when one is asked for.

DPM-Solver++ (Lu et al. 2022, arXiv 2211.01095; multistep, second order) and UniPC (Zhao et al. 2023, arXiv 2302.04867;
second order). Both take no noise but x_T and call the network once a step, at timesteps of the training schedule that
are evenly spaced from the last one down.
"""

from typing import Any

import torch
from torch import Tensor

from diffussm.diffusion.gaussian import GaussianDiffusion
from diffussm.diffusion.schedule import Schedule
from diffussm.errors import UserError


def solver(name: str, schedule: Schedule, steps: int) -> Any:
    """Diffusers' scheduler `name` with this schedule's betas and so many steps; UserError without Diffusers.

    With as many steps as timesteps it would visit one twice, and divide by the log-SNR between them, which is 0.
    """
    if not 1 <= steps < len(schedule):
        raise UserError(f"evaluation.sampler_steps: {steps} is not in 1 .. {len(schedule) - 1}, as {name} needs")
    try:
        from diffusers import DPMSolverMultistepScheduler, UniPCMultistepScheduler
    except ImportError as error:
        raise UserError(f"evaluation.sampler = {name}: needs Diffusers, the extra `samplers` ({error})") from None
    shared: dict[str, Any] = {
        "num_train_timesteps": len(schedule),
        "trained_betas": schedule.betas,
        "prediction_type": "sample",  # they are handed the predicted image, clipped where that is asked for
    }
    made: Any
    match name:
        case "dpm-solver++":
            made = DPMSolverMultistepScheduler(**shared, algorithm_type="dpmsolver++", solver_order=2)
        case "unipc":
            made = UniPCMultistepScheduler(**shared, solver_order=2)
        case _:
            raise ValueError(f"unknown solver {name!r}")
    made.set_timesteps(steps)
    return made


@torch.no_grad()
def solve(diffusion: GaussianDiffusion, scheduler: Any, clip: bool, network: Any, labels: Tensor, noise: Any) -> Tensor:
    """Images (B, C, H, W) from x_T = noise(0) by a fresh scheduler; `diffusion` is of the training schedule."""
    x = noise(0)
    for t in scheduler.timesteps:
        index = torch.full_like(labels, int(t))
        prediction = diffusion.predict(network(x, diffusion.timesteps[index], labels), x, index, clip)
        x = scheduler.step(prediction.x0, t, x).prev_sample
    return x
