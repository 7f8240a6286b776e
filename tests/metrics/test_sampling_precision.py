"""Samples are made in the precision that the evaluation names, and their state is float32 in each."""

import numpy as np
import pytest
import torch
from torch import Tensor

from diffussm.metrics.sampling import SampleMaker, generate
from diffussm.models.build import build_model
from tests.support import tiny


@pytest.mark.parametrize(
    ("precision", "product", "products", "convolutions_in_tf32"),
    [
        ("float32", torch.float32, "ieee", False),
        ("tf32", torch.float32, "tf32", True),
        ("bf16", torch.bfloat16, "tf32", True),
    ],
)
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_what_the_network_computes_in(
    precision: str, product: torch.dtype, products: str, convolutions_in_tf32: bool, guidance: float
) -> None:
    config = tiny.config(evaluation__precision=precision, evaluation__guidance=guidance)
    seen = []

    def network(x: Tensor, *_: Tensor) -> Tensor:
        made = torch.cat([x, x], 1).flatten(2) @ torch.ones(64, 64)
        settings = torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.allow_tf32
        seen.append((x.dtype, made.dtype, *settings))
        return made.view(-1, 2, 8, 8)

    SampleMaker(config, network)(0, 3)
    assert seen == 2 * [(torch.float32, product, products, convolutions_in_tf32)]


def test_bf16_makes_nearly_the_same_samples() -> None:
    config = tiny.config(evaluation__sampler_steps=10)
    torch.manual_seed(0)
    model = build_model(config)
    for parameter in model.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    reduced = config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"precision": "bf16"})})
    exact, near = (generate(c, model, 8).pixels.astype(int) for c in (config, reduced))
    assert (exact != near).any()
    assert np.mean(np.abs(exact - near) <= 1) > 0.5
    assert np.abs(exact - near).mean() < 2
