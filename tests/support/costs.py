"""What the tests of `diffussm cost` share: its rows, and external mixers that state their MACs or do not."""

import json
from typing import Any

import torch
from torch import Tensor, nn

from diffussm.config import ModelConfig, parse_settings
from diffussm.cost.command import Gpus, report

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


class MixerWithoutMacs(nn.Module):
    """An external mixer that does not state its MACs."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.linear = nn.Linear(config.width, 2 * config.width)

    def forward(self, u: Tensor) -> Tensor:
        return self.linear(u)


class MixerWithMacs(MixerWithoutMacs):
    """An external mixer that states its MACs."""

    @staticmethod
    def macs(config: ModelConfig) -> int:
        return 2 * config.length * config.width**2


class MixerWithUncountedOperator(MixerWithMacs):
    """An external mixer with an operator that no handle counts."""

    def forward(self, u: Tensor) -> Tensor:
        return super().forward(torch.fft.fft2(u).real)


WITHOUT_MACS, WITH_MACS, WITH_UNCOUNTED_OPERATOR = (
    f"model.mixer={__name__}:{mixer.__name__}"
    for mixer in (MixerWithoutMacs, MixerWithMacs, MixerWithUncountedOperator)
)


def rows(
    model: str,
    *settings: str,
    resolutions: tuple[str, ...] = (),
    per_block: bool = False,
    audited: bool = False,
    gpus: Gpus | None = None,
) -> list[dict[str, Any]]:
    changes = parse_settings(settings)
    return json.loads(report([model] if model else [], resolutions, changes, per_block, audited, True, gpus))


def row(model: str, *settings: str, resolution: str = "", **more: Any) -> dict[str, Any]:
    (only,) = rows(model, *settings, resolutions=(resolution,) if resolution else (), **more)
    return only
