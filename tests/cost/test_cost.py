"""What a model costs, three ways: closed form, fvcore with our handles, torch's counter; and the published figures."""

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from diffussm.config import resolve
from diffussm.cost.audit import audit
from diffussm.cost.closed_form import attention_products, forward_macs, parameters, parts, s4d_macs
from diffussm.cost.counted import fvcore_counts, torch_macs
from diffussm.cost.executed import executed_macs, s4d
from diffussm.cost.named import NAMED
from diffussm.models.build import build_model, build_uninitialised, initialise
from diffussm.models.layers import SelfAttention
from diffussm.ssm.s4d import S4D
from tests.support.named import named

PUBLISHED = Path(__file__).parents[2] / "reports" / "published"
LENGTHS = [256, 512, 1024, 2048, 4096, 8192, 16384]


# The published figures


@pytest.mark.parametrize("row", pd.read_csv(PUBLISHED / "dit.csv").to_dict("records"), ids=lambda row: row["model"])
def test_dit_costs_what_its_paper_says(row: dict[str, Any]) -> None:
    """Its Gflops, which are MACs, its parameters, depth, width and heads, from the name alone."""
    c = named(row["model"])
    assert (c.model.depth, c.model.width, c.model.heads) == (row["depth"], row["width"], row["heads"])
    tolerance = 0.006 if row["model"] == "DiT-S/8" else 0.003
    assert forward_macs(c).total / 1e9 == pytest.approx(row["gmacs_256"], rel=tolerance)
    assert parameters(c) / 1e6 == pytest.approx(row["params_m"], abs=1)


def test_dit_xl_2_at_512_pixels() -> None:
    assert forward_macs(named("DiT-XL/2", image_size=64)).total / 1e9 == pytest.approx(524.5, abs=0.05)


@pytest.mark.parametrize("image_size", [32, 64])
@pytest.mark.parametrize("ratio", [1, 2, 4, 8])
def test_a_block_of_xl_costs_what_the_papers_formula_says(ratio: int, image_size: int) -> None:
    """13 (L/M) D^2 + L D^2, counted: what a second block adds, less its 3 D^2 of conditioning."""
    one, two = (
        torch_macs(named("DiffuSSM-XL", hourglass=ratio, image_size=image_size, depth=n), "fft") for n in (1, 2)
    )
    length, d = image_size**2, 1152
    assert two - one - 3 * d**2 == 13 * length // ratio * d**2 + length * d**2


def test_attention_in_the_block_adds_what_the_paper_says_and_its_projections() -> None:
    s4d_block, attention = (
        torch_macs(named("DiffuSSM-XL", mixer=mixer, depth=1), "fft") for mixer in ("s4d", "attention")
    )
    length, d = 1024, 1152
    assert attention - s4d_block == 2 * d * length**2 + 5 * length * d**2


def test_mixer_macs_are_the_stated_formula() -> None:
    """XL at 256 pixels: 29 layers of 1152 over 1024 tokens, 4.1 G beside 295.6 G."""
    macs = forward_macs(named("DiffuSSM-XL"))
    assert macs.mixer / 1e9 == pytest.approx(4.1, abs=0.05)
    assert macs.dense == pytest.approx(29 * 7.5 * 1024 * 1152**2, rel=0.002)
    length, d = 1024, 1152
    one = 2.5 * 2 * length * math.log2(2 * length) / 2  # a real FFT of 2L points
    assert macs.mixer == round(d * (4 * one + 2 * 4 * (length + 1) + 2 * length)) * 29


# Closed form, fvcore and torch on the same model


CASES: dict[str, tuple[dict[str, Any], str]] = {
    "S4D by FFT": ({}, "fft"),
    "S4D in one chunk": ({}, "chunked"),
    "S4D in chunks": ({"model.image_size": 16}, "chunked"),
    "S4D in chunks that do not fill": ({"model.image_size": 12}, "chunked"),
    "S4D position by position": ({"model.patch": 4}, "reference"),
    "S4D forward": ({"model.direction": "forward"}, "fft"),
    "residual at full length, Hilbert's curve": ({"model.residual": "full", "model.scan": "hilbert"}, "fft"),
    "M = 1": ({"model.hourglass": 1}, "chunked"),
    "M = 8": ({"model.hourglass": 8}, "chunked"),
    "attention": ({"model.mixer": "attention"}, "auto"),
    "a copy": ({"model.mixer": "identity"}, "auto"),
    "DiT /1": ({"model.kind": "dit"}, "auto"),
    "DiT /2": ({"model.kind": "dit", "model.patch": 2}, "auto"),
    "unconditional": ({"model.classes": 0, "evaluation.metrics": ["fid"]}, "chunked"),
    "fixed variance": ({"diffusion.learned_variance": False, "diffusion.loss": "simple"}, "chunked"),
}
SKIP_IS_FREE = ("fft", "reference")  # a product of real numbers, which no counter counts


@pytest.mark.parametrize(("overrides", "backend"), CASES.values(), ids=CASES)
def test_the_three_counts_agree(overrides: dict[str, Any], backend: str) -> None:
    """To the digit, but for the skip of S4D; the figures per image and those per call."""
    c = resolve("digits", {"model.depth": 2, **overrides})
    found = audit(c, backend)
    has_skip = c.model.kind == "diffussm" and c.model.mixer == "s4d" and backend in SKIP_IS_FREE
    skip = 2 * c.model.width * c.model.length * c.model.depth if has_skip else 0
    assert found.per_image_fvcore + skip == found.per_image
    assert found.fixed_fvcore == found.fixed
    assert found.products_torch == found.products


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in ("DiT-XL/2", "DiffuSSM-S") else pytest.mark.slow) for name in NAMED]
)
def test_torch_agrees_on_every_named_size(name: str) -> None:
    """Without memory, so at full size; the chunked backend, which takes many small steps, in two blocks."""
    assert torch_macs(named(name), "fft") == executed_macs(named(name), "fft").products
    assert torch_macs(named(name, depth=2), "chunked") == executed_macs(named(name, depth=2), "chunked").products


@pytest.mark.parametrize("name", ["DiT-S/8", "DiT-S/2", "DiffuSSM-S"])
def test_an_audit_of_a_named_size(name: str) -> None:
    found = audit(named(name, depth=2), "chunked")
    assert abs(found.residue_fvcore) < 1e-3
    assert abs(found.residue_torch) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["DiT-XL/2", "DiffuSSM-XL"])
@pytest.mark.parametrize("backend", ["fft", "chunked"])
def test_an_audit_of_xl(name: str, backend: str) -> None:
    found = audit(named(name, depth=4), backend)
    assert abs(found.residue_fvcore) < 1e-3
    assert abs(found.residue_torch) < 1e-3


@pytest.mark.parametrize(("overrides", "backend"), CASES.values(), ids=CASES)
def test_each_part_is_counted_right(overrides: dict[str, Any], backend: str) -> None:
    """MACs and parameters of every module by itself, beside the part of its name; the first block stands for all."""
    c = resolve("digits", {"model.depth": 2, **overrides})
    model = build_model(c, backend)
    m = c.model
    index = torch.zeros(1, dtype=torch.long)
    counts = fvcore_counts(model, (torch.zeros(1, m.channels, m.image_size, m.image_size), index, index))
    for part in parts(c):
        if "(products)" in part.name:
            continue
        module = part.name.replace("block.", "blocks.0.")
        assert sum(p.numel() for p in model.get_submodule(module).parameters()) == part.parameters
        if part.name != "block.mixer" or m.mixer != "s4d":
            assert sum(counts[module].values()) == part.macs
    assert sum(part.times * part.parameters for part in parts(c)) == sum(p.numel() for p in model.parameters())


def test_headline_figures_do_not_depend_on_the_backend() -> None:
    costs = [forward_macs(resolve("digits", {"training.backend": name})) for name in ("reference", "fft", "chunked")]
    assert costs[0] == costs[1] == costs[2]


@pytest.mark.parametrize("name", ["DiT-S/2", "DiffuSSM-S"])
def test_a_training_step_is_three_calls_but_for_the_gradients_of_inputs(name: str) -> None:
    """Counted by torch, forward and backward: a layer's backward pass has two products of its forward's size, one of
    them the gradient of its input, which images and timesteps do not need."""
    c = named(name, depth=2, **({} if "DiT" in name else {"mixer": "identity"}))
    with torch.device("meta"):
        model = build_uninitialised(c.model, c.outputs)
        x, index = torch.zeros(1, 4, 32, 32), torch.zeros(1, dtype=torch.long)
        with FlopCounterMode(display=False) as counter:
            model(x, index, index).sum().backward()
    inputs = sum(part.macs for part in parts(c) if part.name in ("x_embedder", "t_embedder.mlp.0"))
    assert counter.get_total_flops() == 2 * (forward_macs(c).training_step(1) - inputs)


# How costs grow with L


def exponent(length_to_macs: Callable[[int], float]) -> float:
    """Slope of log MACs over log L, by least squares."""
    return float(np.polyfit(np.log(LENGTHS), np.log([length_to_macs(length) for length in LENGTHS]), 1)[0])


def counted(mixer: nn.Module, names: tuple[str, ...]) -> Callable[[int], float]:
    """L -> MACs on an image of the operators `names`, as fvcore counts them on the mixer."""

    def count(length: int) -> float:
        one, two = (fvcore_counts(mixer, (torch.zeros(n, length, 4),))[""] for n in (1, 2))
        return sum(two[name] - one[name] for name in names)

    return count


@pytest.fixture
def by_fft() -> S4D:
    layer = S4D(4, 2, True, "fft")
    initialise(layer, 0)
    return layer


S4D_OPERATORS = ("fft", "complex_products")


def test_s4d_by_fft_grows_a_little_faster_than_l(by_fft: S4D) -> None:
    assert exponent(lambda length: s4d_macs(1152, length)) == pytest.approx(1.11, abs=0.02)
    assert exponent(counted(by_fft, S4D_OPERATORS)) == pytest.approx(1.11, abs=0.02)


def test_a_counter_that_sees_no_fft_is_found_out(by_fft: S4D, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffussm.cost.handles._fft", lambda *_: Counter())
    assert exponent(counted(by_fft, S4D_OPERATORS)) == pytest.approx(1.00, abs=0.005)


@pytest.fixture(scope="module")
def attention_counts() -> dict[int, Counter[str]]:
    """L -> operator -> MACs of a small attention mixer."""
    mixer = SelfAttention(4, 1, 8)
    return {length: fvcore_counts(mixer, (torch.zeros(1, length, 4),))[""] for length in LENGTHS}


def test_attentions_products_grow_with_the_square(attention_counts: dict[int, Counter[str]]) -> None:
    assert exponent(lambda length: attention_counts[length]["attention"]) == pytest.approx(2.0, abs=0.005)
    wide = [(16, 256), (32, 1024), (64, 4096), (128, 16384)]
    m = named("DiT-XL/2", patch=1).model
    closed = [attention_products(m.model_copy(update={"image_size": side})) for side, _ in wide]
    assert closed == [2 * 1152 * length**2 for _, length in wide]


def test_a_counter_that_sees_no_attention_is_found_out(attention_counts: dict[int, Counter[str]]) -> None:
    assert exponent(lambda length: attention_counts[length].total()) > 1.9
    assert exponent(lambda length: attention_counts[length]["linear"]) == pytest.approx(1.0, abs=0.005)


def test_the_chunked_backend_grows_with_l() -> None:
    layer = S4D(4, 2, True, "chunked")
    initialise(layer, 0)
    assert exponent(counted(layer, ("chunked_s4d",))) == pytest.approx(1.00, abs=0.02)
    assert exponent(lambda length: s4d("chunked", 1152, 64, length).per_image) == pytest.approx(1.00, abs=0.02)
