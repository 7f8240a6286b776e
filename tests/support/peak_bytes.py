"""The most bytes that tensors of a training step take at once, beside the state of the training."""

from typing import Any

import torch

from diffussm.config import Config
from diffussm.diffusion.gaussian import GaussianDiffusion
from diffussm.diffusion.sampling import training_schedule
from diffussm.models.build import build_model
from tests.support.live_bytes import Made


class Peak(Made):
    """Notes the most bytes that were there after an operator. What is inside a custom operator is not seen."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = super().__torch_dispatch__(operator, types, args, kwargs)
        self.bytes = max(self.bytes, self.live())
        return out


def peak_of_a_step(config: Config, backend: str) -> int:
    """Return the peak of a forward and a backward pass on a CPU; gradients are there at its end."""
    m, images = config.model, config.training.batch
    model = build_model(config, backend)
    x, index = torch.zeros(images, m.channels, m.image_size, m.image_size), torch.zeros(images, dtype=torch.long)
    diffusion = GaussianDiffusion(training_schedule(config.diffusion), config.diffusion)
    with Peak() as peak:
        diffusion.losses(model(x, index, index), x, x, index, x).total.mean().backward()
    return peak.bytes
