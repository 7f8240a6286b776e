"""Embedded sizes: the mixer by each backend, a block by each mixer, a training step.

A backend whose output is not the reference's reports no time. The ratio of a block to the same block with the mixer
replaced by a copy is measured in turns, in one process.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from diffussm import timing
from diffussm.config import ModelConfig, resolve
from diffussm.models.build import initialise
from diffussm.models.diffussm import Block
from diffussm.ssm.s4d import S4D
from diffussm.training.loop import Trainer

ROUNDS, WARMUP = 25, 3
WIDTH, LENGTH, BATCH = 64, 64, 128
SHAPE = f"D = {WIDTH}, L = {LENGTH}, B = {BATCH}"


def measure(benchmark: Any, function: Callable[[], Any], group: str, name: str, **extra: Any) -> None:
    benchmark.group, benchmark.name = group, name
    benchmark.extra_info.update(extra)
    benchmark.pedantic(function, rounds=ROUNDS, warmup_rounds=WARMUP)


def s4d(backend: str) -> S4D:
    layer = S4D(WIDTH, 64, bidirectional=True, backend=backend)
    initialise(layer, seed=0)
    return layer


def block(mixer: str) -> Block:
    config = ModelConfig.model_validate({"width": WIDTH, "hourglass": 2, "mixer": mixer})
    layer = Block(config, "auto")
    initialise(layer, seed=0)
    return layer


def forward_backward(layer: torch.nn.Module, *inputs: torch.Tensor) -> Callable[[], None]:
    def call() -> None:
        layer(*inputs).sum().backward()

    return call


def block_inputs() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(BATCH, LENGTH // 2, WIDTH, requires_grad=True), torch.randn(BATCH, WIDTH)


@pytest.mark.parametrize("backend", ["fft", "chunked"])
def test_mixer(benchmark: Any, backend: str) -> None:
    layer = s4d(backend)
    u = torch.randn(BATCH, LENGTH, WIDTH, requires_grad=True)
    expected = s4d("reference")(u[:2].double()).float()
    torch.testing.assert_close(layer(u)[:2], expected, atol=1e-4, rtol=1e-4)
    measure(benchmark, forward_backward(layer, u), f"S4D, forward and backward, {SHAPE}", backend, shape=SHAPE)


@pytest.mark.parametrize("mixer", ["s4d", "identity"])
def test_block(benchmark: Any, mixer: str) -> None:
    call = forward_backward(block(mixer), *block_inputs())
    measure(benchmark, call, f"block (M = 2), forward and backward, {SHAPE}", mixer, shape=SHAPE)


def test_block_ratio(benchmark: Any) -> None:
    """Block with S4D over block with a copy, forward and backward: at most 1.75 on two idle cores."""
    calls = {mixer: forward_backward(block(mixer), *block_inputs()) for mixer in ("s4d", "identity")}
    if benchmark.disabled:
        benchmark(calls["s4d"])
        return
    seconds = timing.in_turns(calls, rounds=ROUNDS, warmup=WARMUP)
    ratio = timing.ratio(seconds, "s4d", "identity")
    name = "s4d, in turns with identity"
    group = f"block (M = 2), forward and backward, {SHAPE}"
    measure(benchmark, calls["s4d"], group, name, shape=SHAPE, ratio_to_identity=ratio._asdict())


@pytest.mark.parametrize(("hourglass", "patch"), [(2, 1), (1, 2), (1, 1)])
def test_training_step(benchmark: Any, hourglass: int, patch: int) -> None:
    config = resolve("digits", {"model.hourglass": hourglass, "model.patch": patch})
    trainer = Trainer(config, "auto")
    batch = config.training.batch
    measure(benchmark, trainer.step, f"training step, digits, B = {batch}", f"M = {hourglass}, P = {patch}")
