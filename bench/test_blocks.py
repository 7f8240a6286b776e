"""Blocks with S4D, with attention and with the identity mixer; and those of DiffuSSM-XL and DiT-XL without patching.

All blocks of one shape are timed in turns in one process, so that changes of the machine's speed affect all of them.
"""

from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor

from bench.costs import block_headline, block_macs, config_of
from bench.layers import contender, initialised, noise
from bench.measure import BOTH, PASSES, Bench, Contender, Stopwatch, TimingResult
from bench.scale import Shape
from bench.test_mixers import QUERIES, attention_reference
from diffussm.models.diffussm import Block
from diffussm.models.dit import DiTBlock
from diffussm.models.layers import SelfAttention

HOURGLASS = 2
MIXERS = {"S4D": "s4d", "a copy": "identity", "attention": "attention"}
SHAPES = (Shape(64, 64, 128), Shape(384, 1024, 4), Shape(384, 4096, 1), Shape(1152, 1024, 1))
WITH_ATTENTION = SHAPES[:1]
XL = Shape(1152, 4096, 1)
XL_CHECKED = Shape(1152, 256, 1)  # checks at L = 4,096 would take as long as the rounds
SECONDS = 90.0  # limit for the rounds of a block on two cores

passes = pytest.mark.parametrize("pass_", PASSES)


def block_inputs(shape: Shape, length: int, device: str) -> list[Tensor]:
    """Return the residual stream, which has `length` positions, and the condition."""
    return [
        noise(shape.batch, length, shape.width, device=device),
        noise(shape.batch, shape.width, device=device, seed=1),
    ]


def diffussm_block(mixer: str, shape: Shape, pass_: str, device: str) -> Contender:
    """Return a block of DiffuSSM as a contender. With S4D, all results are compared with those of the same block whose
    S4D is computed by plain torch; with attention, its output is compared with the formula."""
    config = config_of(shape, HOURGLASS, mixer=mixer)
    inputs = block_inputs(shape, shape.length // HOURGLASS, device)
    layer = initialised(Block(config.model, "auto"), device)
    plain = initialised(Block(config.model, "chunked"), device) if mixer == "s4d" else None
    macs = block_macs(config, shape.batch, pass_, device)
    check = attention_check(layer.mixer, shape, device) if isinstance(layer.mixer, SelfAttention) else None
    timed = contender(layer, inputs, inputs[0].shape, pass_, macs, check, plain=plain)
    return timed._replace(headline=block_headline(config, shape.batch, pass_))


def dit_block(shape: Shape, pass_: str, device: str) -> Contender:
    """Return a block of DiT as a contender."""
    config, inputs = config_of(shape, kind="dit"), block_inputs(shape, shape.length, device)
    layer = initialised(DiTBlock(shape.width, shape.heads), device)
    headline = block_headline(config, shape.batch, pass_)
    timed = contender(layer, inputs, inputs[0].shape, pass_, headline, attention_check(layer.attn, shape, device))
    return timed._replace(headline=headline)


def attention_check(attention: SelfAttention, shape: Shape, device: str) -> Callable[[], None]:
    """Return a check that attention agrees with its formula at a few positions."""

    def check() -> None:
        u = noise(1, shape.length, shape.width, device=device)
        with torch.no_grad():
            found = attention(u)[:, :QUERIES]
        torch.testing.assert_close(found.double(), attention_reference(attention, u), atol=1e-4, rtol=1e-4)

    return check


def names_at(shape: Shape) -> list[str]:
    return [name for name in MIXERS if name != "attention" or shape in WITH_ATTENTION]


@cache
def in_turns(stopwatch: Stopwatch, shape: Shape, pass_: str) -> dict[str, TimingResult]:
    mixers = {name: MIXERS[name] for name in names_at(shape)}
    timed, device = stopwatch.scale.shape(*shape), stopwatch.scale.device
    contenders = {name: diffussm_block(mixer, timed, pass_, device) for name, mixer in mixers.items()}
    return stopwatch.in_turns(contenders, SECONDS)


@passes
@pytest.mark.parametrize(("shape", "mixer"), [(shape, name) for shape in SHAPES for name in names_at(shape)], ids=str)
def test_block(bench: Bench, mixer: str, shape: Shape, pass_: str) -> None:
    """On two idle cores, S4D takes at most 1.35, 1.22, 1.22 and 1.14 times as long as the identity mixer."""
    bench.describe("blocks", f"block (M = {HOURGLASS})", mixer, pass_, bench.scale.shape(*shape))
    against = [other for other in names_at(shape) if mixer == "S4D" != other]
    bench.record(in_turns(bench.stopwatch, shape, pass_), mixer, against)


@cache
def xl_in_turns(stopwatch: Stopwatch) -> dict[str, TimingResult]:
    device = stopwatch.scale.device
    timed, checked = (
        {"DiT-XL": dit_block(shape, BOTH, device), "DiffuSSM-XL": diffussm_block("s4d", shape, BOTH, device)}
        for shape in (stopwatch.scale.shape(*XL), stopwatch.scale.shape(*XL_CHECKED))
    )
    contenders = {name: one._replace(check=checked[name].check) for name, one in timed.items()}
    return stopwatch.in_turns(contenders, SECONDS)


@pytest.mark.parametrize("model", ["DiT-XL", "DiffuSSM-XL"])
def test_xl_block(bench: Bench, model: str) -> None:
    """Compare blocks without patching, where attention sees all 4,096 tokens."""
    bench.describe("blocks", "XL block", model, BOTH, bench.scale.shape(*XL))
    bench.record(xl_in_turns(bench.stopwatch), model, ["DiffuSSM-XL"] if model == "DiT-XL" else [])
