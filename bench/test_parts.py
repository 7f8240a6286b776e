"""The parts of a DiffuSSM block one by one, forward and backward.

Each part is timed on its own inputs, in turns with the others and with the whole block.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from bench.costs import block_macs, config_of
from bench.layers import contender, initialised, noise
from bench.measure import BOTH, Bench, Contender, Stopwatch, TimingResult
from bench.scale import Shape
from diffussm.models.diffussm import Block
from diffussm.models.layers import gelu, modulate

CASES = ((Shape(1152, 1024, 1), BOTH),)
PARTS = ("norm, adaLN", "W_0", "W_up", "mixer", "W_down", "W_1, W_2, W_3, gate")
WHOLE = "whole block"
SECONDS = 30.0  # limit for the rounds of a part on two cores


class Part(NamedTuple):
    """A function of the block, its inputs, and the layers that it uses."""

    call: Callable[..., Tensor]
    inputs: Sequence[Tensor]
    layers: tuple[str, ...]


@torch.no_grad()
def parts_of(block: Block, x: Tensor, condition: Tensor) -> tuple[dict[str, Part], Tensor]:
    """Return the parts in order, with the outputs of earlier ones as inputs, and the output of the last one."""

    def normed(x: Tensor, condition: Tensor) -> Tensor:
        shift, scale, _ = block.adaLN_modulation(condition)[:, None].chunk(3, dim=-1)
        return modulate(block.norm(x), shift, scale)

    def up(h: Tensor) -> Tensor:
        return block._spread(gelu(block.w_up(h)))

    def down(y: Tensor) -> Tensor:
        return block._join(gelu(block.w_down(block._group(y))))

    def gated(i: Tensor, y: Tensor, x: Tensor, alpha: Tensor) -> Tensor:
        return torch.addcmul(x, alpha, block.w_3(gelu(block.w_2(y)) * gelu(block.w_1(i))))

    i = normed(x, condition)  # (B, J, D)
    h = gelu(block.w_0(i))
    u = up(h)  # (B, L, D)
    y = block.mixer(u)  # (B, L, 2D)
    short = down(y)  # (B, J, 2D)
    alpha = block.adaLN_modulation(condition)[:, None].chunk(3, dim=-1)[2].contiguous()  # (B, 1, D)
    parts = (
        Part(normed, [x, condition], ("adaLN_modulation",)),
        Part(lambda i: gelu(block.w_0(i)), [i], ("w_0",)),
        Part(up, [h], ("w_up",)),
        Part(block.mixer, [u], ("mixer",)),
        Part(down, [y], ("w_down",)),
        Part(gated, [i, short, x, alpha], ("w_1", "w_2", "w_3")),
    )
    return dict(zip(PARTS, parts, strict=True)), gated(i, short, x, alpha)


def contenders(shape: Shape, pass_: str, device: str) -> dict[str, Contender]:
    """Return the parts as contenders, and the whole block last."""
    config = config_of(shape, mixer="s4d")
    block, other = (initialised(Block(config.model, backend), device) for backend in ("auto", "chunked"))
    x = noise(shape.batch, shape.length // config.model.hourglass, shape.width, device=device)
    condition = noise(shape.batch, shape.width, device=device, seed=1)
    parts, expected = parts_of(block, x, condition)

    @cache
    def check() -> None:
        """Assert that all parts in sequence give the output of the block."""
        with torch.no_grad():
            torch.testing.assert_close(block(x, condition), expected)

    def of(part: Part) -> Contender:
        with torch.no_grad():
            outputs = part.call(*part.inputs).shape
        layers: list[nn.Module] = [block.get_submodule(name) for name in part.layers]
        macs = block_macs(config, shape.batch, pass_, device, only=tuple(f"block.{name}" for name in part.layers))
        inputs = [tensor.clone() for tensor in part.inputs]
        plain = other.mixer if part.call is block.mixer else None
        return contender(part.call, inputs, outputs, pass_, macs, check, layers, plain)

    macs = block_macs(config, shape.batch, pass_, device)
    whole = contender(block, [x.clone(), condition.clone()], x.shape, pass_, macs, check, plain=other)
    return {**{name: of(part) for name, part in parts.items()}, WHOLE: whole}


@cache
def in_turns(stopwatch: Stopwatch, shape: Shape, pass_: str) -> dict[str, TimingResult]:
    return stopwatch.in_turns(contenders(stopwatch.scale.shape(*shape), pass_, stopwatch.scale.device), SECONDS)


@pytest.mark.parametrize(("shape", "pass_"), CASES, ids=str)
@pytest.mark.parametrize("part", [*PARTS, WHOLE])
def test_part(bench: Bench, part: str, shape: Shape, pass_: str) -> None:
    bench.describe("parts", "parts of a block (M = 2)", part, pass_, bench.scale.shape(*shape))
    bench.record(in_turns(bench.stopwatch, shape, pass_), part)
