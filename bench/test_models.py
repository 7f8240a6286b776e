"""Whole models beside their peers: DiT here is to be no slower than anybody's.

In turns, in one process: a training step of ours, the same of Diffusers' DiT where that is installed, and the machine's
limit, the step's matrix products and nothing else.
"""

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.measure import measure
from diffussm import timing
from diffussm.config import Config
from diffussm.cost.closed_form import parts
from diffussm.cost.named import named
from diffussm.models.build import build_model

BATCH, ROUNDS, WARMUP = 4, 5, 1
NAME = "DiT-S/2"
GROUP = f"{NAME}, training step, 32 x 32 latents, B = {BATCH}, in turns"


def inputs(config: Config) -> tuple[Tensor, Tensor, Tensor]:
    m = config.model
    x = torch.randn(BATCH, m.channels, m.image_size, m.image_size)
    return x, torch.arange(BATCH) * 200, torch.arange(BATCH) * 200


def training_step(model: nn.Module, call: Callable[[], Tensor]) -> Callable[[], None]:
    """Forward, backward and AdamW's update, the loss a mean square."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        optimiser.zero_grad()
        call().square().mean().backward()
        optimiser.step()

    return step


def ours(config: Config) -> Callable[[], None]:
    model, batch = build_model(config), inputs(config)
    return training_step(model, lambda: model(*batch))


def diffusers(config: Config) -> Callable[[], None]:
    """Its DiT of the same shape."""
    from diffusers import DiTTransformer2DModel

    m = config.model
    model: Any = DiTTransformer2DModel(
        num_attention_heads=m.heads,
        attention_head_dim=m.width // m.heads,
        num_layers=m.depth,
        sample_size=m.image_size,
        patch_size=m.patch,
        in_channels=m.channels,
        out_channels=config.outputs,
        num_embeds_ada_norm=m.classes,
    )
    x, t, y = inputs(config)
    return training_step(model, lambda: model(x, timestep=t, class_labels=y).sample)


def limit(config: Config) -> Callable[[], None]:
    """The products of the blocks' layers and of attention, forward and twice backward."""
    m = config.model
    heads, size, rows = BATCH * m.heads, m.width // m.heads, BATCH * m.length
    linear = [
        (torch.randn(rows, i), torch.randn(i, o), torch.randn(rows, o))
        for part in parts(config)
        if part.name.startswith("block.") and part.macs and part.parameters and "adaLN" not in part.name
        for i, o in [_sizes(part.macs // m.length, part.parameters)]
    ]
    q, scores = torch.randn(heads, m.length, size), torch.randn(heads, m.length, m.length)

    def step() -> None:
        for _ in range(m.depth):
            for x, weight, gradient in linear:
                _ = x @ weight, gradient @ weight.T, x.T @ gradient
            for _ in range(3):
                _ = q @ q.mT, scores @ q

    return step


def _sizes(product: int, parameters: int) -> tuple[int, int]:
    """Inputs and outputs of a linear layer, from their product and its number of parameters, biases included."""
    outputs = parameters - product
    return product // outputs, outputs


PEERS: dict[str, Callable[[Config], Callable[[], None]]] = {
    "ours": ours,
    "diffusers": diffusers,
    "limit of matrix products": limit,
}


@pytest.fixture(scope="module")
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.usefixtures("two_threads")
def test_dit_training_step(benchmark: Any, peer: str) -> None:
    """On two cores: no slower than Diffusers' (ratio at most 1); the limit says how much there is to win."""
    if peer == "diffusers" and not find_spec("diffusers"):
        pytest.skip("missing: diffusers")
    config = named(NAME, {"model.depth": 1} if benchmark.disabled else None)
    calls = {"ours": ours(config), peer: PEERS[peer](config)}
    if benchmark.disabled:
        benchmark(calls[peer])
        return
    extra: dict[str, Any] = {}
    if peer != "ours":
        ratio = timing.ratio(timing.in_turns(calls, ROUNDS, WARMUP), "ours", peer)
        extra["ratio"] = {"of": "ours to this", **ratio._asdict()}
    measure(benchmark, calls[peer], GROUP, peer, rounds=3, **extra)
