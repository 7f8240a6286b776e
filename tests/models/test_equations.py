"""The block, attention and DiT's block against the published equations written out."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from diffussm.models.build import initialise
from diffussm.models.diffussm import Block
from diffussm.models.dit import DiTBlock
from diffussm.models.layers import SelfAttention
from tests.support.accuracy import assert_as_accurate
from tests.support.digits_models import config, randomise


def linear(layer: torch.nn.Linear, v: Tensor) -> Tensor:
    return v @ layer.weight.T + layer.bias


def sigma(v: Tensor) -> Tensor:
    return 0.5 * v * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (v + 0.044715 * v**3)))


def normalised(x: Tensor) -> Tensor:
    mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, correction=0)
    return (x - mean) / (variance + 1e-6).sqrt()


@pytest.mark.parametrize("mixer", ["s4d", "attention"])
@pytest.mark.parametrize("residual", ["short", "full"])
def test_a_block_is_the_papers_equations(residual: str, mixer: str) -> None:
    """One position after another, each V_k, W_up_k, W_down_k and R_k by itself, in float64; S4D by its recurrence."""
    m, d = 4, 8
    c = config(hourglass=m, width=d, residual=residual, mixer=mixer)
    block = Block(c.model, "reference").double()
    initialise(block, seed=0)
    randomise(block)
    length = 64 if residual == "full" else 16
    x = torch.randn(2, length, d, dtype=torch.float64)
    condition = torch.randn(2, d, dtype=torch.float64)

    shift, scale, alpha = linear(block.adaLN_modulation[1], F.silu(condition))[:, None].split(d, dim=-1)
    modulated = normalised(x) * (1 + scale) + shift
    i = modulated
    if residual == "full":
        i = torch.empty(2, 16, d, dtype=torch.float64)
        for position in range(64):
            j, k = divmod(position, m)
            part = slice(d // m * k, d // m * (k + 1))
            i[:, j, part] = modulated[:, position] @ block.v.weight[k] + block.v.bias[k, 0]
    hidden = sigma(linear(block.w_0, i))
    u = torch.empty(2, 64, d, dtype=torch.float64)
    for position in range(64):
        j, k = divmod(position, m)
        rows = slice(k * d, (k + 1) * d)
        u[:, position] = sigma(hidden[:, j] @ block.w_up.weight[rows].T + block.w_up.bias[rows])
    if mixer == "s4d":
        y = block.mixer(u)
    else:
        y = linear(block.mixer.proj, plain_attention(linear(block.mixer.qkv, u), block.mixer.heads))
    down = torch.empty(2, 16, 2 * d, dtype=torch.float64)
    for position in range(64):
        j, k = divmod(position, m)
        part = slice(2 * d // m * k, 2 * d // m * (k + 1))
        down[:, j, part] = sigma(y[:, position] @ block.w_down.weight[k] + block.w_down.bias[k, 0])
    o = linear(block.w_3, sigma(linear(block.w_2, down)) * sigma(linear(block.w_1, i)))
    expected = x.clone()
    for position in range(length):
        if residual == "full":
            j, k = divmod(position, m)
            rows = slice(k * d, (k + 1) * d)
            added = o[:, j] @ block.r.weight[rows].T + block.r.bias[rows]
        else:
            added = o[:, position]
        expected[:, position] += alpha[:, 0] * added
    torch.testing.assert_close(block(x, condition), expected)


def plain_attention(qkv: Tensor, heads: int) -> Tensor:
    """softmax(q k^T / sqrt(D/H)) v, head by head and query by query: (B, L, 3D) -> (B, L, D)."""
    q, k, v = qkv.chunk(3, dim=-1)
    size = q.shape[-1] // heads
    out = torch.empty_like(q)
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        for position in range(q.shape[1]):
            score = (k[..., part] * q[:, position, None, part]).sum(-1) / size**0.5
            weight = score.exp() / score.exp().sum(-1, keepdim=True)
            out[:, position, part] = (weight[..., None] * v[..., part]).sum(1)
    return out


def test_attention_is_a_plain_computation() -> None:
    mixer = SelfAttention(12, 3, 24).double()
    initialise(mixer, seed=0)
    randomise(mixer)
    u = torch.randn(2, 7, 12, dtype=torch.float64)
    torch.testing.assert_close(mixer(u), linear(mixer.proj, plain_attention(linear(mixer.qkv, u), 3)))
    assert mixer(u).shape == (2, 7, 24)


def test_attention_is_as_accurate_as_a_plain_computation_in_float32() -> None:
    mixer, exact = SelfAttention(12, 3, 24), SelfAttention(12, 3, 24).double()
    for one in (mixer, exact):
        initialise(one, seed=0)
    u = torch.randn(2, 65, 12, generator=torch.Generator().manual_seed(0))
    written_out = linear(mixer.proj, plain_attention(linear(mixer.qkv, u), 3))
    assert_as_accurate(mixer(u), written_out, exact(u.double()))


def test_a_dit_block_is_a_plain_computation() -> None:
    d = 12
    block = DiTBlock(d, 3).double()
    initialise(block, seed=0)
    randomise(block)
    x, condition = torch.randn(2, 7, d, dtype=torch.float64), torch.randn(2, d, dtype=torch.float64)
    modulation = linear(block.adaLN_modulation[1], F.silu(condition))[:, None]
    shift_1, scale_1, alpha_1, shift_2, scale_2, alpha_2 = modulation.split(d, dim=-1)
    seen = plain_attention(linear(block.attn.qkv, normalised(x) * (1 + scale_1) + shift_1), 3)
    middle = x + alpha_1 * linear(block.attn.proj, seen)
    hidden = sigma(linear(block.mlp.fc1, normalised(middle) * (1 + scale_2) + shift_2))
    expected = middle + alpha_2 * linear(block.mlp.fc2, hidden)
    torch.testing.assert_close(block(x, condition), expected)
