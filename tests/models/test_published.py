"""DiT is Diffusers': the same weights, the same outputs; files and configs that do not fit are named."""

import json
import re
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiTTransformer2DModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from diffussm.errors import UserError
from diffussm.models.published import load_diffusers_dit
from tests.support.accuracy import assert_as_accurate
from tests.support.diffusers_dit import SMALL, theirs

BLOCK, TABLE = "transformer_blocks", "norm1.emb.class_embedder.embedding_table.weight"
S_2 = {"num_attention_heads": 6, "attention_head_dim": 64, "num_layers": 12}
XL_2 = {"num_attention_heads": 16, "attention_head_dim": 72, "num_layers": 2}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    theirs(**SMALL).save_pretrained(tmp_path / "dit")
    return tmp_path / "dit"


def batch(classes: int, side: int = 32) -> tuple[Tensor, Tensor, Tensor]:
    """Images, timesteps from both ends, classes of which the last is none."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, 4, side, side, generator=generator)
    return x, torch.tensor([0, 421, 999]), torch.tensor([3, 7, classes])


def call(model: DiTTransformer2DModel, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
    return model(x, timestep=t, class_labels=y).sample


@pytest.mark.parametrize("shape", [S_2, XL_2], ids=["S/2", "XL/2 of two layers"])
@torch.no_grad()
def test_outputs_are_those_of_diffusers(shape: dict[str, int], tmp_path: Path) -> None:
    """To the rounding of float32: no further from Diffusers' in float64 than twice its own float32 is."""
    model = theirs(**shape)
    model.save_pretrained(tmp_path)
    ours, inputs = load_diffusers_dit(tmp_path), batch(1000)
    exact = call(deepcopy(model).double(), inputs[0].double(), *inputs[1:])
    assert_as_accurate(ours(*inputs), call(model, *inputs), exact)


@torch.no_grad()
def test_where_diffusers_differs_from_the_official_code(folder: Path) -> None:
    """Its frequencies end at exactly 1/10000, the official ones a step before; at timestep 0 all angles are 0."""
    ours, model = load_diffusers_dit(folder), theirs(**SMALL)
    for block in model.transformer_blocks:
        block.norm1.emb.time_proj.downscale_freq_shift = (
            DiTTransformer2DModel(**SMALL).transformer_blocks[0].norm1.emb.time_proj.downscale_freq_shift
        )
    x, t, y = batch(10, 8)
    away = (ours(x, t, y) - call(model, x, t, y)).abs().flatten(1).amax(1)
    assert away[0] < 1e-5
    assert away[1] > 1e-3


@torch.no_grad()
def test_dropped_classes_are_those_of_diffusers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In training Diffusers drops labels by a draw below 0.1, here the same in every block."""
    ours, model = load_diffusers_dit(folder), theirs(**SMALL).train()
    draws = torch.tensor([0.05, 0.5, 0.9])
    monkeypatch.setattr(torch, "rand", lambda *_, **__: draws)
    x, t, _ = batch(10, 8)
    labels = torch.tensor([3, 7, 9])
    dropped, exact = call(model, x, t, labels), call(deepcopy(model).double(), x.double(), t, labels)
    assert_as_accurate(ours(x, t, torch.tensor([10, 7, 9])), dropped, exact)
    assert not torch.allclose(ours(x, t, labels)[0], dropped[0], atol=1e-3)


def test_a_pipelines_folder_and_other_files_of_weights(folder: Path, tmp_path: Path) -> None:
    expected = load_diffusers_dit(folder)
    pipeline = tmp_path / "pipeline" / "transformer"
    pipeline.mkdir(parents=True)
    (pipeline / "config.json").write_text((folder / "config.json").read_text())
    weights = load_file(folder / "diffusion_pytorch_model.safetensors")
    torch.save(weights, pipeline / "diffusion_pytorch_model.bin")
    assert same(load_diffusers_dit(pipeline.parent), expected)


@pytest.mark.parametrize("name", ["diffusion_pytorch_model.safetensors", "config.json"])
def test_files_that_are_cut_off_are_named(name: str, folder: Path) -> None:
    (folder / name).write_bytes((folder / name).read_bytes()[:100])
    with pytest.raises(UserError, match=re.escape(str(folder / name))):
        load_diffusers_dit(folder)


def same(a: nn.Module, b: nn.Module) -> bool:
    one, two = a.state_dict(), b.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def edit(folder: Path, change: Callable[[dict[str, Tensor]], None]) -> None:
    path = folder / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path)


def other_embedder(weights: dict[str, Tensor]) -> None:
    weights["transformer_blocks.1.norm1.emb.class_embedder.embedding_table.weight"][3, 4] += 1e-6


def without_a_copy(weights: dict[str, Tensor]) -> None:
    del weights[f"{BLOCK}.1.{TABLE}"]


def with_a_published_name(weights: dict[str, Tensor]) -> None:
    weights["blocks.0.attn.qkv.bias"] = torch.zeros(48)


def with_another_query(weights: dict[str, Tensor]) -> None:
    name = f"{BLOCK}.0.attn1.to_%s.weight"
    weights[name % "q"], weights[name % "k"] = torch.zeros(17, 16), torch.zeros(15, 16)


def with_a_block_more(weights: dict[str, Tensor]) -> None:
    weights[f"{BLOCK}.99999999.ff.net.2.bias"] = torch.zeros(16)


def with_whole_numbers(weights: dict[str, Tensor]) -> None:
    weights["proj_out_2.bias"] = torch.zeros(32, dtype=torch.long)


def without_a_bias(weights: dict[str, Tensor]) -> None:
    del weights["transformer_blocks.1.ff.net.2.bias"]


def with_a_norm(weights: dict[str, Tensor]) -> None:
    weights["transformer_blocks.0.attn1.norm_q.weight"] = torch.ones(8)


def wider(weights: dict[str, Tensor]) -> None:
    weights["proj_out_2.weight"] = torch.zeros(32, 18)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (other_embedder, f"{BLOCK}.1.{TABLE} differs from that of block 0; a DiT has one for all blocks"),
        (without_a_copy, f"{BLOCK}.1.{TABLE} is missing"),
        (without_a_bias, f"{BLOCK}.1.ff.net.2.bias is missing"),
        (with_a_norm, f"{BLOCK}.0.attn1.norm_q.weight is unknown"),
        (with_a_published_name, "blocks.0.attn.qkv.bias is unknown"),
        (with_another_query, "to_v.weight have different shapes"),
        (with_a_block_more, "weights of 3 blocks, but config.json has num_layers = 2"),
        (with_whole_numbers, "proj_out_2.bias is torch.int64"),
        (wider, "final_layer.linear.weight has shape 32 x 18, expected 32 x 16"),
    ],
)
def test_weights_that_do_not_fit_are_named(change: Callable[[Any], None], words: str, folder: Path) -> None:
    edit(folder, change)
    with pytest.raises(UserError, match=words.replace(".", r"\.")):
        load_diffusers_dit(folder)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("norm_type", "layer_norm", "norm_type = 'layer_norm'; a DiT has 'ada_norm_zero'"),
        ("attention_bias", False, "attention_bias = False; a DiT has True"),
        ("sample_size", 9, "patch: 2 does not divide image_size = 9"),
        ("num_layers", None, "num_layers = None, expected an integer >= 1"),
        ("patch_size", "2", "patch_size = '2', expected an integer >= 1"),
        ("patch_size", 0, "patch_size = 0, expected an integer >= 1"),
        ("out_channels", 7, "7 output channels; allowed: 4, or 8 with a learned variance"),
        ("norm_eps", 1e-2, "norm_eps = 0.01; a DiT has 1e-05 or 1e-06"),
        ("_class_name", "UNet2DModel", "a DiT has 'DiTTransformer2DModel' or"),
        ("patch_size", ..., "patch_size is missing"),
    ],
)
def test_configs_that_are_no_dits_are_refused(field: str, value: Any, words: str, folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config[field] = value
    if value is ...:
        del config[field]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=words):
        load_diffusers_dit(folder)
