"""DiT (Peebles and Xie 2023, arXiv 2212.09748): a transformer on patches, adaLN-Zero; names and shapes as published.

Letters: B batch, L = (H/P)^2 tokens, P patch size, C channels, D width.
"""

import torch
from einops import rearrange
from torch import Tensor, nn

from diffussm.config import ModelConfig
from diffussm.models.blocks import Blocks
from diffussm.models.layers import (
    FinalLayer,
    LabelEmbedder,
    SelfAttention,
    TimestepEmbedder,
    gelu,
    layer_norm,
    modulate,
    position_embedding,
)
from diffussm.models.stored import Source

MLP_RATIO = 4


class PatchEmbedder(nn.Module):
    """A linear layer on each patch: (B, C, H, W) -> (B, L, D), in raster order."""

    def __init__(self, channels: int, patch: int, width: int):
        super().__init__()
        self.proj = nn.Conv2d(channels, width, patch, stride=patch)

    def forward(self, x: Tensor) -> Tensor:
        return rearrange(self.proj(x), "b d h w -> b (h w) d").contiguous()  # else later layers inherit its strides


class MLP(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.fc1 = nn.Linear(width, MLP_RATIO * width)
        self.fc2 = nn.Linear(MLP_RATIO * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(gelu(self.fc1(x)))


class DiTBlock(nn.Module):
    """x + alpha_1 attention(modulate(LN(x))), then + alpha_2 MLP(modulate(LN(x))); the identity at initialisation."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm1, self.norm2 = layer_norm(width), layer_norm(width)
        self.attn = SelfAttention(width, heads, width)
        self.mlp = MLP(width)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Map x (B, L, D) and condition (B, D) to (B, L, D)."""
        shift_1, scale_1, alpha_1, shift_2, scale_2, alpha_2 = self.adaLN_modulation(condition)[:, None].chunk(6, -1)
        x = torch.addcmul(x, alpha_1, self.attn(modulate(self.norm1(x), shift_1, scale_1)))
        return torch.addcmul(x, alpha_2, self.mlp(modulate(self.norm2(x), shift_2, scale_2)))


class DiT(nn.Module):
    """The network (x_t (B, C, H, W), t (B,), y (B,)) -> (B, C_out, H, W): noise, and variance if `outputs` is 2C.

    y is the class, or `classes` for no class; unconditional models (classes = 0) ignore it.
    """

    source: Source | None = None  # set where the weights come from another program

    def __init__(self, config: ModelConfig, outputs: int):
        super().__init__()
        self.config, self.outputs = config, outputs
        self.side = config.image_size // config.patch
        self.x_embedder = PatchEmbedder(config.channels, config.patch, config.width)
        self.t_embedder = TimestepEmbedder(config.width)
        self.y_embedder = LabelEmbedder(config.classes, config.width) if config.classes else None
        self.register_buffer(
            "pos_embed", position_embedding(self.side, config.width)[None]
        )  # fixed, but stored in published files
        self.blocks = Blocks(DiTBlock(config.width, config.heads) for _ in range(config.depth))
        self.final_layer = FinalLayer(config.width, config.patch**2 * outputs)

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        x = self.x_embedder(x) + self.pos_embed  # (B, L, D)
        condition = self.t_embedder(t)  # (B, D)
        if self.y_embedder is not None:
            condition = condition + self.y_embedder(y)
        x = self.blocks(x, condition)
        x = self.final_layer(x, condition)  # (B, L, P P C_out)
        p = self.config.patch
        return rearrange(x, "b (h w) (p q c) -> b c (h p) (w q)", h=self.side, p=p, q=p)
