"""Whole networks to be timed: a forward call, or a training step (forward pass, backward pass, AdamW update)."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bench.costs import FORWARDS, bytes_moved, model_headline, model_macs
from bench.layers import noise
from bench.measure import FORWARD, Contender
from diffussm.config import Config
from diffussm.cost.closed_form import parameters, parts
from diffussm.models.build import build_model

Network = Callable[[], Tensor]


def inputs(config: Config, batch: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return noisy images (B, C, H, W), timesteps and labels (B,)."""
    m = config.model
    x = noise(batch, m.channels, m.image_size, m.image_size, device=device)
    steps = torch.arange(batch, device=device) * (config.diffusion.timesteps // batch)
    return x, steps, torch.arange(batch, device=device) % max(m.classes, 1)


def training_step(model: nn.Module, call: Network) -> Callable[[], None]:
    """Return a training step whose loss is the mean square of the output."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        optimiser.zero_grad()
        call().square().mean().backward()
        optimiser.step()

    return step


def ours(config: Config, batch: int, pass_: str, device: str) -> Contender:
    """Return this package's model as a contender."""
    model, batch_inputs = build_model(config).to(device), inputs(config, batch, device)
    return _contender(config, batch, pass_, device, model, lambda: model(*batch_inputs))


def diffusers(config: Config, batch: int, pass_: str, device: str) -> Contender:
    """Return Diffusers' DiT of the same shape, without label dropout, as a contender."""
    from diffusers import DiTTransformer2DModel

    m = config.model
    model_class: Any = DiTTransformer2DModel
    model = model_class(
        num_attention_heads=m.heads,
        attention_head_dim=m.width // m.heads,
        num_layers=m.depth,
        sample_size=m.image_size,
        patch_size=m.patch,
        in_channels=m.channels,
        out_channels=config.outputs,
        num_embeds_ada_norm=m.classes,
    ).to(device)
    x, t, y = inputs(config, batch, device)
    return _contender(config, batch, pass_, device, model, lambda: model(x, timestep=t, class_labels=y).sample)


def products(config: Config, batch: int, pass_: str, device: str) -> Contender:
    """Return the matrix products of a DiT's blocks and nothing else, as a bound; twice as many backward as forward."""
    m = config.model
    heads, size, rows = batch * m.heads, m.width // m.heads, batch * m.length
    linear = [
        (noise(rows, i, device=device), noise(i, o, device=device), noise(rows, o, device=device))
        for part in parts(config)
        if part.name.startswith("block.") and part.macs and part.parameters and "adaLN" not in part.name
        for i, o in [_sizes(part.macs // m.length, part.parameters)]
    ]
    q, scores = noise(heads, m.length, size, device=device), noise(heads, m.length, m.length, device=device)

    def step() -> None:
        for _ in range(m.depth):
            for x, weight, gradient in linear:
                _ = x @ weight if pass_ == FORWARD else (x @ weight, gradient @ weight.T, x.T @ gradient)
            for _ in range(FORWARDS[pass_]):
                _ = q @ q.mT, scores @ q

    macs = m.depth * (sum(x.shape[0] * x.shape[1] * o.shape[1] for x, _, o in linear) + 2 * heads * m.length**2 * size)
    return Contender(step, macs=FORWARDS[pass_] * macs)


def _contender(config: Config, batch: int, pass_: str, device: str, model: nn.Module, call: Network) -> Contender:
    x, steps, labels = inputs(config, batch, "cpu")
    outputs = x.numel() // config.model.channels * config.outputs
    read = sum(tensor.numel() for tensor in (x, steps, labels))

    def check() -> None:
        with torch.no_grad():
            found = call()
        assert tuple(found.shape) == (batch, config.outputs, *x.shape[2:]), f"shape {tuple(found.shape)}"
        assert found.isfinite().all(), "not finite"

    timed = torch.no_grad()(call) if pass_ == FORWARD else training_step(model, call)
    traffic = bytes_moved(read, outputs, parameters(config), pass_)
    macs, headline = model_macs(config, batch, pass_, device), model_headline(config, batch, pass_)
    return Contender(timed, check, macs, traffic, items=batch, headline=headline)


def _sizes(product: int, count: int) -> Sequence[int]:
    """Return the numbers of inputs and outputs of a linear layer, from their product and its number of parameters,
    including biases."""
    outputs = count - product
    return product // outputs, outputs
