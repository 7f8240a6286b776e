"""What mixes along the sequence inside a DiffuSSM block: any module u (B, L, D) -> y (B, L, 2D)."""

import torch
from torch import Tensor, nn

from diffussm.config import ModelConfig
from diffussm.ssm.s4d import S4D


class Identity(nn.Module):
    """A copy in place of mixing: what the dense layers alone can do, and what they alone cost."""

    def forward(self, u: Tensor) -> Tensor:
        return torch.cat([u, u], dim=-1)


def build_mixer(config: ModelConfig, backend: str) -> nn.Module:
    match config.mixer:
        case "s4d":
            return S4D(config.width, config.state, config.direction == "bidirectional", backend)
        case "identity":
            return Identity()
