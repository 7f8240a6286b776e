"""Published weights of DiT: the official `.pt` files and folders in Diffusers' format, as models of ours.

Weights alone are read, never arbitrary pickles. Diffusers keeps the timestep and label embedders once per block; the
copies must agree. Its `DiTTransformer2DModel` computes two things in another way than the code that trained these
weights, and than ours: timestep frequencies with 127 in the exponent's denominator in place of 128, and, unless
`norm_eps` says 1e-6, the second norm of a block with 1e-5.
"""

import argparse
import json
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from diffussm.config import load_base, validate
from diffussm.errors import UserError
from diffussm.models.dit import DiT
from diffussm.models.weights import load_weights

Weights = dict[str, Tensor]

_DIFFUSERS_MEANS = {  # of a Diffusers config: what a DiT has
    "norm_type": "ada_norm_zero",
    "activation_fn": "gelu-approximate",
    "attention_bias": True,
    "norm_elementwise_affine": False,
    "dropout": 0.0,
    "upcast_attention": False,
}
_WHOLE = {  # Diffusers' name -> the published one
    "pos_embed.proj": "x_embedder.proj",
    "proj_out_1": "final_layer.adaLN_modulation.1",
    "proj_out_2": "final_layer.linear",
}
_IN_BLOCK = {
    "norm1.linear": "adaLN_modulation.1",
    "attn1.to_out.0": "attn.proj",
    "ff.net.0.proj": "mlp.fc1",
    "ff.net.2": "mlp.fc2",
}
_COPIED = {  # kept in every block
    "norm1.emb.timestep_embedder.linear_1.weight": "t_embedder.mlp.0.weight",
    "norm1.emb.timestep_embedder.linear_1.bias": "t_embedder.mlp.0.bias",
    "norm1.emb.timestep_embedder.linear_2.weight": "t_embedder.mlp.2.weight",
    "norm1.emb.timestep_embedder.linear_2.bias": "t_embedder.mlp.2.bias",
    "norm1.emb.class_embedder.embedding_table.weight": "y_embedder.embedding_table.weight",
}
_STACKED = ("attn1.to_q", "attn1.to_k", "attn1.to_v")  # one on the other: attn.qkv


def load_official_dit(path: Path | str, heads: int | None = None) -> DiT:
    """The model in an official checkpoint: bare weights, or a training state, whose moving average is taken.

    All but the number of heads follows from the shapes; without `heads` it is that of the published size of this width.
    UserError for a file that is anything but weights, and for weights that do not fit.
    """
    path = Path(path)
    weights = _official_weights(path)
    for name in ("x_embedder.proj.weight", "pos_embed", "final_layer.linear.weight"):
        if name not in weights:
            raise UserError(f"{path}: no weights of a DiT ({name} is missing)")
    width, channels, patch, _ = weights["x_embedder.proj.weight"].shape
    side = round(weights["pos_embed"].shape[1] ** 0.5)
    table = weights.get("y_embedder.embedding_table.weight")
    fields = {
        "depth": 1 + max((int(m[1]) for m in map(re.compile(r"blocks\.(\d+)\.").match, weights) if m), default=0),
        "width": width,
        "heads": heads or _published_heads(width, path),
        "patch": patch,
        "image_size": side * patch,
        "channels": channels,
        "classes": 0 if table is None else len(table) - 1,
    }
    return _made(fields, weights["final_layer.linear.weight"].shape[0] // patch**2, weights, path)


def load_diffusers_dit(folder: Path | str) -> DiT:
    """The model in a folder of Diffusers' format: a pipeline's, or that of its `transformer`.

    UserError where it is no DiT, or its blocks' copies of the embedders differ.
    """
    folder = Path(folder)
    folder = folder / "transformer" if (folder / "transformer").is_dir() else folder
    config = read_config(folder)
    for field, value in _DIFFUSERS_MEANS.items():
        if config.get(field, value) != value:
            raise UserError(f"{folder / 'config.json'}: {field} = {config[field]!r}: a DiT has {value!r}")
    try:
        heads, patch, channels = (config[name] for name in ("num_attention_heads", "patch_size", "in_channels"))
        fields = {
            "depth": config["num_layers"],
            "width": heads * config["attention_head_dim"],
            "heads": heads,
            "patch": patch,
            "image_size": config["sample_size"],
            "channels": channels,
            "classes": config["num_embeds_ada_norm"],
        }
    except KeyError as error:
        raise UserError(f"{folder / 'config.json'}: {error.args[0]} is missing") from None
    weights = _from_diffusers(_diffusers_weights(folder), folder)
    weights["pos_embed"] = _position_embedding(fields["image_size"] // patch, fields["width"])
    return _made(fields, config.get("out_channels") or channels, weights, folder)


def read_config(folder: Path) -> dict[str, Any]:
    """A folder's config.json; UserError where there is none."""
    path = folder / "config.json"
    try:
        content = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{folder}: no config.json") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not JSON ({error})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds no config")
    return content


def _made(fields: Mapping[str, Any], outputs: int, weights: Weights, source: Path) -> DiT:
    config = validate({"model": {"kind": "dit", **fields}}, str(source)).model
    model = DiT(config, outputs)
    load_weights(model, weights, str(source))
    return model.eval()


def _official_weights(path: Path) -> Weights:
    content = _unpickled(path)
    for part in ("ema", "model"):  # a training state's
        if isinstance(content, dict) and isinstance(content.get(part), dict):
            content = content[part]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"{path}: holds no weights by name")
    return {str(name).removeprefix("module."): value for name, value in content.items()}


def _unpickled(path: Path) -> Any:
    """Tensors and plain values; the training state's arguments too, a bare namespace."""
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        LookupError,
        ValueError,
        AttributeError,
        TypeError,
    ) as error:
        reason = next((line for line in str(error).splitlines() if "GLOBAL" in line or "global" in line), "")
        raise UserError(f"{path}: not weights alone, so not loaded{f' ({reason.strip()})' if reason else ''}") from None


def _published_heads(width: int, source: Path) -> int:
    by_width = {size["width"]: size["heads"] for size in load_base("imagenet256")["sizes"]["dit"].values()}
    if width not in by_width:
        raise UserError(f"{source}: width {width} is of no published size; say how many heads it has")
    return by_width[width]


def _diffusers_weights(folder: Path) -> Weights:
    path = folder / "diffusion_pytorch_model.safetensors"
    if path.exists():
        return load_file(path)
    path = path.with_suffix(".bin")
    if not path.exists():
        raise UserError(f"{folder}: no diffusion_pytorch_model.safetensors and no .bin")
    return _unpickled(path)


def _from_diffusers(theirs: Weights, source: Path) -> Weights:
    """Their names to the published ones; what has no published name keeps its own, to be found not to fit."""
    out: Weights = {}
    stacked: dict[str, dict[str, Tensor]] = {}
    for name, value in theirs.items():
        block, inside = _split_block(name)
        owner, _, leaf = inside.rpartition(".")
        if not block:
            out[f"{_WHOLE.get(owner, owner)}.{leaf}"] = value
        elif inside in _COPIED:
            first = out.setdefault(_COPIED[inside], value)
            if not torch.equal(first, value):
                raise UserError(f"{source}: {inside} of block {block} is not that of block 0; a DiT has one for all")
        elif owner in _STACKED:
            stacked.setdefault(f"blocks.{block}.attn.qkv.{leaf}", {})[owner] = value
        else:
            out[f"blocks.{block}.{_IN_BLOCK.get(owner, owner)}.{leaf}"] = value
    for name, parts in stacked.items():
        out[name] = torch.cat([parts[part] for part in _STACKED if part in parts])
    return out


def _split_block(name: str) -> tuple[str, str]:
    """Number of the block, empty for none, and the name inside it."""
    match = re.fullmatch(r"transformer_blocks\.(\d+)\.(.+)", name)
    return (match[1], match[2]) if match else ("", name)


def _position_embedding(side: int, width: int) -> Tensor:
    """As the official files have it, rounded once from double precision: (1, side^2, D)."""
    row, column = np.divmod(np.arange(side * side), side)
    frequency = 10000.0 ** (-np.arange(width // 4) / (width // 4))
    angles = [np.outer(position, frequency) for position in (column, row)]
    table = np.concatenate([wave(angle) for angle in angles for wave in (np.sin, np.cos)], axis=1)
    return torch.from_numpy(table).float()[None]
