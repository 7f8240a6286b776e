"""DiffuSSM (Yan, Gu, Rush 2023, arXiv 2311.18257): gated bidirectional S4D layers and hourglass dense layers.

Letters: B batch, L tokens at full resolution, M hourglass ratio, J = L/M, P patch size, C channels, D width.

The paper is inconsistent about the length of the residual stream, so `residual` selects it. `short`: the short length
J, as in the equations. The embedding is one linear layer on M consecutive tokens, that is, on a 1 x M patch of the
sequence: M groups pixels as P does, but the mixer still runs over all L tokens. `full`: length L, as in Figure 2, with
a projection down to J before the dense layers of a block and one up to L after them.
"""

import torch
from einops import rearrange
from torch import Tensor, nn

from diffussm.config import ModelConfig, is_external
from diffussm.models.blocks import Blocks
from diffussm.models.layers import (
    FinalLayer,
    GroupedLinear,
    LabelEmbedder,
    TimestepEmbedder,
    gelu,
    layer_norm,
    modulate,
    position_embedding,
)
from diffussm.models.mixers import build_mixer
from diffussm.models.scan import scan_order
from diffussm.models.stored import Source


class Block(nn.Module):
    """x + alpha W_3(gelu(W_2 I') * gelu(W_1 I)): dense hourglass layers around one mixer, adaLN-Zero on the condition.

    I = modulate(LayerNorm(x)); u = gelu(W_up gelu(W_0 I)) at full length; y = mixer(u); I' = gelu(W_down y). With
    residual `full`, x has length L: I_j is the M projections V_k x_(Mj+k) side by side, and x_(Mj+k) gets R_k O_j.
    """

    def __init__(self, config: ModelConfig, backend: str):
        super().__init__()
        width, self.hourglass, self.full = config.width, config.hourglass, config.residual == "full"
        self.norm = layer_norm(width)
        if self.full:
            self.v = GroupedLinear(self.hourglass, width, width // self.hourglass)
            self.r = nn.Linear(width, self.hourglass * width)
        self.w_0 = nn.Linear(width, width)
        self.w_up = nn.Linear(width, self.hourglass * width)
        self.mixer = build_mixer(config, backend)
        self.w_down = GroupedLinear(self.hourglass, 2 * width, 2 * width // self.hourglass)
        self.w_1 = nn.Linear(width, 2 * width)
        self.w_2 = nn.Linear(2 * width, 2 * width)
        self.w_3 = nn.Linear(2 * width, width)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 3 * width))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Map x (B, J, D), or (B, L, D) with residual `full`, and condition (B, D) to the shape of x."""
        shift, scale, alpha = self.adaLN_modulation(condition)[:, None].chunk(3, dim=-1)
        i = modulate(self.norm(x), shift, scale)
        if self.full:
            i = self._join(self.v(self._group(i)))  # (B, J, D)
        o = self._dense(i)
        if self.full:
            o = self._spread(self.r(o))  # (B, L, D)
        return torch.addcmul(x, alpha, o)

    def _dense(self, i: Tensor) -> Tensor:
        """Compute O of the paper's equations: (B, J, D) -> (B, J, D)."""
        u = self._spread(gelu(self.w_up(gelu(self.w_0(i)))))  # (B, L, D)
        y = self.mixer(u)  # (B, L, 2D)
        y = self._join(gelu(self.w_down(self._group(y))))  # (B, J, 2D)
        return self.w_3(gelu(self.w_2(y)) * gelu(self.w_1(i)))

    def _group(self, x: Tensor) -> Tensor:
        return rearrange(x, "b (j m) d -> b j m d", m=self.hourglass)

    def _join(self, x: Tensor) -> Tensor:
        return rearrange(x, "b j m d -> b j (m d)")

    def _spread(self, x: Tensor) -> Tensor:
        return rearrange(x, "b j (m d) -> b (j m) d", m=self.hourglass)


class DiffuSSM(nn.Module):
    """The network (x_t (B, C, H, W), t (B,), y (B,)) -> (B, C_out, H, W): noise, and variance if `outputs` is 2C.

    y is the class, or `classes` for no class; unconditional models (classes = 0) ignore it.
    """

    source: Source | None = None  # set where the weights come from another program
    order: Tensor  # (L,)
    restore: Tensor  # (L,)
    position: Tensor  # (J, D), or (L, D) with residual `full`

    def __init__(self, config: ModelConfig, outputs: int, backend: str = "auto"):
        super().__init__()
        self.config, self.outputs = config, outputs
        self.group = config.hourglass if config.residual == "short" else 1  # tokens per position of the stream
        pixels = self.group * config.patch**2
        self.x_embedder = nn.Linear(pixels * config.channels, config.width)
        self.t_embedder = TimestepEmbedder(config.width)
        self.y_embedder = LabelEmbedder(config.classes, config.width) if config.classes else None
        blocks = (Block(config, backend) for _ in range(config.depth))
        self.blocks = Blocks(blocks, draws=is_external(config.mixer))
        self.final_layer = FinalLayer(config.width, pixels * outputs)
        self.side = config.image_size // config.patch
        order = scan_order(config.scan, self.side)
        tokens = position_embedding(self.side, config.width)[order]
        position = rearrange(tokens, "(j m) d -> j m d", m=self.group).mean(1)
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("restore", order.argsort(), persistent=False)
        self.register_buffer("position", position, persistent=False)

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        p = self.config.patch
        x = rearrange(x, "b c (h p) (w q) -> b (h w) (p q c)", p=p, q=p)  # (B, L, P P C)
        x = x[:, self.order]
        x = self.x_embedder(rearrange(x, "b (j m) c -> b j (m c)", m=self.group)) + self.position  # (B, J, D)
        condition = self.t_embedder(t)  # (B, D)
        if self.y_embedder is not None:
            condition = condition + self.y_embedder(y)
        x = self.blocks(x, condition)
        x = self.final_layer(x, condition)  # (B, J, M P P C_out)
        x = rearrange(x, "b j (m c) -> b (j m) c", m=self.group)
        x = x[:, self.restore]
        return rearrange(x, "b (h w) (p q c) -> b c (h p) (w q)", h=self.side, p=p, q=p)
