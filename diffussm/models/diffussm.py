"""DiffuSSM (Yan, Gu, Rush 2023, arXiv 2311.18257): gated bidirectional S4D layers and hourglass dense layers.

Letters: B batch, L tokens at full resolution, M hourglass ratio, J = L/M, P patch size, C channels, D width.

The residual stream is at the short length J, as in the paper's equations. The embedding is one linear layer on M
consecutive tokens, that is on a 1 x M patch of the sequence: M groups pixels too, and differs from P in that the
mixer still runs over all L of them.
"""

import torch
from einops import rearrange
from torch import Tensor, nn

from diffussm.config import ModelConfig
from diffussm.models.layers import (
    GroupedLinear,
    LabelEmbedder,
    TimestepEmbedder,
    gelu,
    modulate,
    position_embedding,
)
from diffussm.models.mixers import build_mixer


class Block(nn.Module):
    """x + alpha W_3(gelu(W_2 I') * gelu(W_1 I)): the dense hourglass round one mixer, adaLN-Zero on the condition.

    I = modulate(LayerNorm(x)); u = gelu(W_up gelu(W_0 I)) at full length; y = mixer(u); I' = gelu(W_down y).
    """

    def __init__(self, config: ModelConfig, backend: str):
        super().__init__()
        width, self.hourglass = config.width, config.hourglass
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.w_0 = nn.Linear(width, width)
        self.w_up = nn.Linear(width, self.hourglass * width)
        self.mixer = build_mixer(config, backend)
        self.w_down = GroupedLinear(self.hourglass, 2 * width, 2 * width // self.hourglass)
        self.w_1 = nn.Linear(width, 2 * width)
        self.w_2 = nn.Linear(2 * width, 2 * width)
        self.w_3 = nn.Linear(2 * width, width)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 3 * width))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x (B, J, D), condition (B, D) -> (B, J, D)."""
        shift, scale, alpha = self.adaLN_modulation(condition)[:, None].chunk(3, dim=-1)
        i = modulate(self.norm(x), shift, scale)
        u = gelu(self.w_up(gelu(self.w_0(i))))
        u = rearrange(u, "b j (m d) -> b (j m) d", m=self.hourglass)  # (B, L, D)
        y = self.mixer(u)  # (B, L, 2D)
        y = gelu(self.w_down(rearrange(y, "b (j m) d -> b j m d", m=self.hourglass)))  # (B, J, M, 2D/M)
        y = rearrange(y, "b j m d -> b j (m d)")  # (B, J, 2D)
        return torch.addcmul(x, alpha, self.w_3(gelu(self.w_2(y)) * gelu(self.w_1(i))))


class FinalLayer(nn.Module):
    """Modulated layer norm and a linear decoder to noise and variance of every pixel of a position."""

    def __init__(self, width: int, outputs: int):
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))
        self.linear = nn.Linear(width, outputs)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(condition)[:, None].chunk(2, dim=-1)
        return self.linear(modulate(self.norm(x), shift, scale))


class DiffuSSM(nn.Module):
    """(x_t (B, C, H, W), t (B,), y (B,)) -> (B, C_out, H, W): noise, and variance if `outputs` is 2C.

    y is the class, `classes` for none; unconditional models (classes = 0) ignore it.
    """

    def __init__(self, config: ModelConfig, outputs: int, backend: str = "auto"):
        super().__init__()
        self.config, self.outputs = config, outputs
        group = config.hourglass * config.patch**2
        self.x_embedder = nn.Linear(group * config.channels, config.width)
        self.t_embedder = TimestepEmbedder(config.width)
        self.y_embedder = LabelEmbedder(config.classes, config.width) if config.classes else None
        self.blocks = nn.ModuleList(Block(config, backend) for _ in range(config.depth))
        self.final_layer = FinalLayer(config.width, group * outputs)
        tokens = position_embedding(config.image_size // config.patch, config.width)
        position = rearrange(tokens, "(j m) d -> j m d", m=config.hourglass).mean(1)
        self.register_buffer("position", position, persistent=False)  # (J, D)

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        m, p, side = self.config.hourglass, self.config.patch, self.config.image_size // self.config.patch
        x = rearrange(x, "b c (h p) (w q) -> b (h w) (p q c)", p=p, q=p)  # (B, L, P P C)
        x = self.x_embedder(rearrange(x, "b (j m) c -> b j (m c)", m=m)) + self.position  # (B, J, D)
        condition = self.t_embedder(t)  # (B, D)
        if self.y_embedder is not None:
            condition = condition + self.y_embedder(y)
        for block in self.blocks:
            x = block(x, condition)
        x = self.final_layer(x, condition)  # (B, J, M P P C_out)
        x = rearrange(x, "b j (m c) -> b (j m) c", m=m)
        return rearrange(x, "b (h w) (p q c) -> b c (h p) (w q)", h=side, p=p, q=p)
