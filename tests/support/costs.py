"""What the tests of `diffussm cost` share: its rows, and mixers from outside that say more or less of their costs."""

import json
from typing import Any

import torch
from torch import Tensor, nn

from diffussm.config import ModelConfig
from diffussm.cost.command import report

COLUMNS = [
    "model",
    "resolution",
    "tokens",
    "parameters",
    "macs_per_call",
    "dense_macs",
    "mixer_macs",
    "backend",
    "executed_macs_per_call",
    "macs_fixed_per_call",
    "calls",
    "guidance_factor",
    "macs_per_image",
    "batch",
    "macs_per_training_step",
]


class Silent(nn.Module):
    """A mixer from outside that does not say what it costs."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.linear = nn.Linear(config.width, 2 * config.width)

    def forward(self, u: Tensor) -> Tensor:
        return self.linear(u)


class Talkative(Silent):
    """One that does."""

    @staticmethod
    def macs(config: ModelConfig) -> int:
        return 2 * config.length * config.width**2


class Uncountable(Talkative):
    """One that does what no handle counts."""

    def forward(self, u: Tensor) -> Tensor:
        return super().forward(torch.fft.fft2(u).real)


SILENT, TALKATIVE, UNCOUNTABLE = (f"model.mixer={__name__}:{name}" for name in ("Silent", "Talkative", "Uncountable"))


def rows(
    model: str, *settings: str, resolutions: tuple[str, ...] = (), per_block: bool = False, audited: bool = False
) -> list[dict[str, Any]]:
    return json.loads(report([model] if model else [], resolutions, settings, per_block, audited, as_json=True))


def row(model: str, *settings: str, resolution: str = "", **more: bool) -> dict[str, Any]:
    (only,) = rows(model, *settings, resolutions=(resolution,) if resolution else (), **more)
    return only
