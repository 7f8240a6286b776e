"""What torch's kernels of attention ask for: a flash kernel takes half precision alone, without a mask."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from ablations.grid.arms import arms
from ablations.grid.reading import grids, load
from diffussm.config import Config, bases, resolve
from diffussm.cost.named import NAMED, named_config
from diffussm.models.build import build_model

LARGEST_HEAD, MULTIPLE = 256, 8


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("kind", ["dit", "attention"])
def test_attention_suits_a_flash_kernel(kind: str, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []
    usual = F.scaled_dot_product_attention

    def recorded(*arguments: Any) -> torch.Tensor:
        calls.append(arguments)
        return usual(*arguments)

    monkeypatch.setattr(F, "scaled_dot_product_attention", recorded)
    what = {"model.kind": "dit"} if kind == "dit" else {"model.mixer": "attention"}
    config = resolve("digits", {**what, "model.width": 32, "model.heads": 4, "model.depth": 2})
    x, index = torch.zeros(3, 1, 8, 8), torch.zeros(3, dtype=torch.long)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        build_model(config)(x, index, index)
    assert len(calls) == 2  # one a block
    for q_k_v in calls:
        assert len(q_k_v) == 3  # no mask, no dropout, not causal
        for tensor in q_k_v:
            assert tensor.dtype == (torch.bfloat16 if precision == "bf16" else torch.float32)
            assert tensor.shape == (3, 4, config.model.length, 8)
            assert tensor.stride(-1) == 1


def has_attention(config: Config) -> bool:
    return config.model.kind == "dit" or config.model.mixer == "attention"


def test_the_heads_of_every_base_and_grid_suit_it() -> None:
    configs = {name: named_config(name) for name in NAMED} | {base: resolve(base) for base in bases()}
    for name in grids():
        for base in ("imagenet256", "imagenet512"):
            configs |= {f"{name}: {arm.name} on {base}": resolve(base, arm.overrides) for arm in arms(load(name))}
    heads = {name: c.model.width // c.model.heads for name, c in configs.items() if has_attention(c)}
    assert len(heads) > len([name for name in NAMED if name.startswith("DiT")])
    assert {name: size for name, size in heads.items() if size % MULTIPLE or size > LARGEST_HEAD} == {}
