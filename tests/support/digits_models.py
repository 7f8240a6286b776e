"""Configs, weights and inputs of models of the digits base."""

import torch
from torch import Tensor

from diffussm.config import Config, resolve


def config(**model: object) -> Config:
    """The digits base, M = 1 unless given, with changes of the model."""
    defaults = {} if model.get("kind") == "dit" else {"hourglass": 1}
    overrides: dict[str, object] = {f"model.{name}": value for name, value in (defaults | model).items()}
    if model.get("classes") == 0:
        overrides["evaluation.metrics"] = ["fid"]
    return resolve("digits", overrides)


def randomise(module: torch.nn.Module) -> None:
    """Move every parameter off its initial value, zeros too."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator, dtype=p.dtype))


def batch(c: Config, size: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    m = c.model
    x = torch.randn(size, m.channels, m.image_size, m.image_size, generator=generator)
    return x, torch.arange(size) * 300, torch.arange(size) % (m.classes or 1)
