"""Layers that both models use: embeddings, adaptive layer norm, final layer, grouped projections, self-attention."""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from diffussm.config import TIMESTEP_FREQUENCIES


def gelu(x: Tensor) -> Tensor:
    """Return GELU in its tanh form (Hendrycks and Gimpel 2016), as in DiT; the DiffuSSM paper names no activation."""
    return F.gelu(x, approximate="tanh")


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Return x (1 + scale) + shift for x (B, J, D); scale and shift are (B, 1, D)."""
    return torch.addcmul(shift, x, 1 + scale)


def layer_norm(width: int) -> nn.LayerNorm:
    """Return a layer norm without learned scale and shift: the condition gives them."""
    return nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)


class GroupedLinear(nn.Module):
    """A separate linear layer for each of M positions of a group: (B, J, M, I) -> (B, J, M, O)."""

    def __init__(self, groups: int, inputs: int, outputs: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(groups, inputs, outputs))
        self.bias = nn.Parameter(torch.empty(groups, 1, outputs))

    def forward(self, x: Tensor) -> Tensor:
        batch, positions, groups, inputs = x.shape
        x = x.reshape(batch * positions, groups, inputs).transpose(0, 1)  # (M, B J, I)
        x = torch.baddbmm(self.bias, x, self.weight)  # (M, B J, O)
        return x.transpose(0, 1).reshape(batch, positions, groups, -1)


class FinalLayer(nn.Module):
    """Modulated layer norm and a linear decoder to the noise and variance of all pixels of a position."""

    def __init__(self, width: int, outputs: int):
        super().__init__()
        self.norm_final = layer_norm(width)
        self.linear = nn.Linear(width, outputs)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Map x (B, J, D) and condition (B, D) to (B, J, outputs)."""
        shift, scale = self.adaLN_modulation(condition)[:, None].chunk(2, dim=-1)
        return self.linear(modulate(self.norm_final(x), shift, scale))


class SelfAttention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017): linear D -> 3D, softmax(q k^T / sqrt(D/H)) v, linear D -> outputs.

    On a GPU torch computes the middle part by a flash kernel (Dao et al. 2022) in bf16, and by its memory-efficient
    kernel in float32: there is no mask, and the features of a head are neighbours in memory.
    """

    def __init__(self, width: int, heads: int, outputs: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, L, D) to (B, L, outputs)."""
        q, k, v = rearrange(self.qkv(x), "b l (three h d) -> three b h l d", three=3, h=self.heads)
        y = F.scaled_dot_product_attention(q, k, v)  # (B, H, L, D/H)
        return self.proj(rearrange(y, "b h l d -> b l (h d)"))


class TimestepEmbedder(nn.Module):
    """A two-layer MLP on sinusoids of the timestep: (B,) -> (B, D)."""

    def __init__(self, width: int):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(TIMESTEP_FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Tensor) -> Tensor:
        return self.mlp(sinusoids(t, TIMESTEP_FREQUENCIES).to(next(self.mlp.parameters()).dtype))


class LabelEmbedder(nn.Module):
    """An embedding table of classes, whose last row is for "no class": (B,) -> (B, D)."""

    def __init__(self, classes: int, width: int):
        super().__init__()
        self.embedding_table = nn.Embedding(classes + 1, width)

    def forward(self, y: Tensor) -> Tensor:
        return self.embedding_table(y)


def sinusoids(position: Tensor, size: int) -> Tensor:
    """Return cos and sin of position x 10000^(-k / (size/2)): (...) -> (..., size)."""
    half = size // 2
    frequency = torch.exp(-math.log(10000) * torch.arange(half, device=position.device, dtype=torch.float32) / half)
    angle = position.float()[..., None] * frequency
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


def position_embedding(side: int, width: int) -> Tensor:
    """Return DiT's fixed 2-D sine-cosine embedding of a side x side raster, column before row: (side^2, D)."""
    row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    halves = []
    for axis in (column, row):
        angles = sinusoids(axis.flatten(), width // 2)
        cosine, sine = angles.chunk(2, dim=-1)
        halves.append(torch.cat([sine, cosine], dim=-1))
    return torch.cat(halves, dim=-1)
