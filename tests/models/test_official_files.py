"""The official files of DiT: their names and shapes, every form of them, and files that are refused."""

import argparse
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from diffussm.errors import UserError
from diffussm.models.build import build_uninitialised, initialise
from diffussm.models.published import _position_embedding, load_diffusers_dit, load_official_dit
from tests.support.bomb import Bomb
from tests.support.diffusers_dit import SMALL, theirs
from tests.support.named import named


@pytest.fixture
def official(tmp_path: Path) -> dict[str, Tensor]:
    """Weights under the names, and in the shapes, of the official files."""
    theirs(**SMALL).save_pretrained(tmp_path / "dit")
    return load_diffusers_dit(tmp_path / "dit").state_dict()


def test_names_and_shapes_are_the_official_ones() -> None:
    """Of DiT-XL/2 at 256 pixels, as published; written here from the paper's sizes."""
    d, hidden = 1152, 4 * 1152
    expected: dict[str, tuple[int, ...]] = {
        "pos_embed": (1, 256, d),
        "x_embedder.proj.weight": (d, 4, 2, 2),
        "x_embedder.proj.bias": (d,),
        "t_embedder.mlp.0.weight": (d, 256),
        "t_embedder.mlp.0.bias": (d,),
        "t_embedder.mlp.2.weight": (d, d),
        "t_embedder.mlp.2.bias": (d,),
        "y_embedder.embedding_table.weight": (1001, d),
        "final_layer.linear.weight": (32, d),
        "final_layer.linear.bias": (32,),
        "final_layer.adaLN_modulation.1.weight": (2 * d, d),
        "final_layer.adaLN_modulation.1.bias": (2 * d,),
    }
    for i in range(28):
        for name, shape in {
            "attn.qkv": (3 * d, d),
            "attn.proj": (d, d),
            "mlp.fc1": (hidden, d),
            "mlp.fc2": (d, hidden),
            "adaLN_modulation.1": (6 * d, d),
        }.items():
            expected[f"blocks.{i}.{name}.weight"] = shape
            expected[f"blocks.{i}.{name}.bias"] = shape[:1]
    c = named("DiT-XL/2")
    with torch.device("meta"):
        model = build_uninitialised(c.model, c.outputs)
    assert {name: tuple(value.shape) for name, value in model.state_dict().items()} == expected


@pytest.mark.parametrize("form", ["bare", "training state", "distributed"])
def test_an_official_file_loads(form: str, official: dict[str, Tensor], tmp_path: Path) -> None:
    content: dict[str, Any] = dict(official)
    if form == "training state":
        noise = {name: torch.zeros_like(value) for name, value in official.items()}
        content = {"model": noise, "ema": official, "opt": {"state": {}}, "args": argparse.Namespace(image_size=256)}
    if form == "distributed":
        content = {f"module.{name}": value for name, value in official.items()}
    torch.save(content, tmp_path / "dit.pt")
    loaded = load_official_dit(tmp_path / "dit.pt", heads=2)
    assert all(torch.equal(value, official[name]) for name, value in loaded.state_dict().items())
    m = loaded.config
    assert (m.depth, m.width, m.heads, m.patch, m.image_size, m.channels, m.classes) == (2, 16, 2, 2, 8, 4, 10)


def test_heads_follow_from_a_published_width(tmp_path: Path) -> None:
    c = named("DiT-S/8", depth=1)
    torch.save(build_uninitialised(c.model, c.outputs).state_dict(), tmp_path / "s.pt")
    assert load_official_dit(tmp_path / "s.pt").config.heads == 6


def test_heads_of_another_width_must_be_given(official: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(official, tmp_path / "dit.pt")
    with pytest.raises(UserError, match="width 16 is not that of a published size; give the number of heads"):
        load_official_dit(tmp_path / "dit.pt")


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16, torch.float64])
def test_an_official_file_in_another_precision_loads(
    precision: torch.dtype, official: dict[str, Tensor], tmp_path: Path
) -> None:
    torch.save({name: value.to(precision) for name, value in official.items()}, tmp_path / "dit.pt")
    loaded = load_official_dit(tmp_path / "dit.pt", heads=2)
    assert torch.equal(loaded.blocks[1].mlp.fc1.weight, official["blocks.1.mlp.fc1.weight"].to(precision).float())


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("pos_embed", torch.zeros(16), "pos_embed has 1 dimensions, expected 3"),
        ("x_embedder.proj.weight", torch.zeros(16, 4), "x_embedder.proj.weight has 2 dimensions, expected 4"),
        ("x_embedder.proj.weight", torch.zeros(16, 4, 0, 0), "model.patch = 0"),
        ("final_layer.linear.weight", torch.zeros(20, 16), "5 output channels; allowed: 4"),
        ("y_embedder.embedding_table.weight", torch.zeros(()), "has 0 dimensions, expected 2"),
        ("blocks.99999999.mlp.fc1.bias", torch.zeros(64), "blocks.2.attn.qkv.weight is missing"),
        ("pos_embed", torch.zeros(1, 16, 16, device="meta"), "pos_embed"),
        ("pos_embed", torch.zeros(1, 16, 16, dtype=torch.complex64), "pos_embed is torch.complex64"),
    ],
)
def test_official_files_of_other_shapes_are_refused(
    name: str, value: Tensor, words: str, official: dict[str, Tensor], tmp_path: Path
) -> None:
    torch.save({**official, name: value}, tmp_path / "dit.pt")
    with pytest.raises(UserError, match=re.escape(words)):
        load_official_dit(tmp_path / "dit.pt", heads=2)


@pytest.mark.parametrize("write", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content, 2))])
def test_a_pickle_that_would_run_something_is_refused(write: Callable[[Any, Path], None], tmp_path: Path) -> None:
    """And is not run."""
    write({"x_embedder.proj.weight": Bomb(tmp_path / "ran")}, tmp_path / "harmful.pt")
    with pytest.raises(UserError, match="not loaded: it is damaged or holds Python objects") as error:
        load_official_dit(tmp_path / "harmful.pt")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"a": 1}, "not weights: expected tensors by name"),
        ([1], "not weights: expected tensors by name"),
        ({"a": torch.zeros(1)}, "not the weights of a DiT"),
    ],
)
def test_other_files_are_refused(content: Any, words: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(UserError, match=words):
        load_official_dit(tmp_path / "other.pt")
    with pytest.raises(UserError, match="No such file"):
        load_official_dit(tmp_path / "missing.pt")
    (tmp_path / "text.pt").write_text("no weights")
    with pytest.raises(UserError, match="is damaged or holds Python objects"):
        load_official_dit(tmp_path / "text.pt")


def test_another_position_embedding_does_not_fit(official: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(official | {"pos_embed": official["pos_embed"].roll(1, 1)}, tmp_path / "dit.pt")
    with pytest.raises(UserError, match="pos_embed has wrong values"):
        load_official_dit(tmp_path / "dit.pt", heads=2)


def test_a_fresh_model_has_the_official_position_embedding(official: dict[str, Tensor]) -> None:
    """Made in single precision, theirs in double and then rounded."""
    c = named("DiT-XL/2", depth=1)
    model = build_uninitialised(c.model, c.outputs)
    initialise(model, 0)
    torch.testing.assert_close(model.pos_embed, _position_embedding(16, 1152), rtol=0, atol=5e-6)
