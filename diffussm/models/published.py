"""Published DiT weights, from the official `.pt` files and from folders in Diffusers' format, loaded into our DiT.

Only weights are read, never arbitrary pickles. Diffusers stores the timestep and label embedders once per block; the
copies must agree. Its `DiTTransformer2DModel` differs in two points from the code that trained these weights, and from
ours: the timestep frequencies have 127 in the exponent's denominator instead of 128, and the second norm of a block
uses an epsilon of 1e-5, unless `norm_eps` is 1e-6.
"""

import argparse
import json
import math
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffussm.config import ModelConfig, load_base, validate
from diffussm.errors import UserError
from diffussm.models.dit import DiT
from diffussm.models.stored import Source, announced_source, read_state, read_weights
from diffussm.models.weights import listed, load_weights
from diffussm.store.integrity.stamp import DamagedFile

Weights = dict[str, Tensor]

_ALLOWED = {  # fields of a Diffusers config and the values that a DiT has; the first is the default of a missing field
    "_class_name": ("DiTTransformer2DModel", "Transformer2DModel"),
    "norm_type": ("ada_norm_zero",),
    "activation_fn": ("gelu-approximate",),
    "attention_bias": (True,),
    "norm_elementwise_affine": (False,),
    "norm_eps": (1e-5, 1e-6),
    "dropout": (0.0,),
    "upcast_attention": (False,),
    "double_self_attention": (False,),
    "cross_attention_dim": (None,),
}
_WHOLE = {  # the published name -> Diffusers'
    "x_embedder.proj": "pos_embed.proj",
    "final_layer.adaLN_modulation.1": "proj_out_1",
    "final_layer.linear": "proj_out_2",
}
_IN_BLOCK = {
    "adaLN_modulation.1": "norm1.linear",
    "attn.proj": "attn1.to_out.0",
    "mlp.fc1": "ff.net.0.proj",
    "mlp.fc2": "ff.net.2",
}
_IN_EVERY_BLOCK = {
    "t_embedder.mlp.0.weight": "norm1.emb.timestep_embedder.linear_1.weight",
    "t_embedder.mlp.0.bias": "norm1.emb.timestep_embedder.linear_1.bias",
    "t_embedder.mlp.2.weight": "norm1.emb.timestep_embedder.linear_2.weight",
    "t_embedder.mlp.2.bias": "norm1.emb.timestep_embedder.linear_2.bias",
    "y_embedder.embedding_table.weight": "norm1.emb.class_embedder.embedding_table.weight",
}
_STACKED = ("attn1.to_q", "attn1.to_k", "attn1.to_v")  # concatenated in this order: attn.qkv
_LEAVES = ("weight", "bias")
_PRECISIONS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def load_official_dit(path: Path | str, heads: int | None = None) -> DiT:
    """Return the model in an official checkpoint: bare weights, or a training state, of which the EMA is taken.

    All fields but the number of heads follow from the shapes; without `heads` it is that of the published size of the
    same width. Raises UserError for a file that holds anything but weights, and for weights that do not fit.
    """
    path = Path(path)
    weights, source = _official_weights(path)
    width, channels, patch, _ = _shape(weights, "x_embedder.proj.weight", 4, path)
    _, tokens, _ = _shape(weights, "pos_embed", 3, path)
    rows, _ = _shape(weights, "final_layer.linear.weight", 2, path)
    table = "y_embedder.embedding_table.weight"
    fields = {
        "depth": len({match[1] for name in weights if (match := re.match(r"blocks\.(\d+)\.", name))}),
        "width": width,
        "heads": heads or _published_heads(width, path),
        "patch": patch,
        "image_size": math.isqrt(tokens) * patch,
        "channels": channels,
        "classes": _shape(weights, table, 2, path)[0] - 1 if table in weights else 0,
    }
    return _build(fields, rows // max(patch, 1) ** 2, weights, path, source)


def load_diffusers_dit(folder: Path | str) -> DiT:
    """Return the model in a folder in Diffusers' format: a pipeline's folder, or that of its `transformer`.

    Raises UserError for a model other than a DiT, and for blocks whose copies of the embedders differ.
    """
    folder = _transformer(Path(folder))
    fields, outputs = _diffusers_fields(folder)
    theirs, source = _diffusers_weights(folder)
    return _build(fields, outputs, _from_diffusers(theirs, fields["depth"], folder), folder, source)


def describe_diffusers_dit(folder: Path) -> tuple[ModelConfig, int]:
    """Return the model's config and its output channels. Raises as `load_diffusers_dit`."""
    folder = _transformer(folder)
    fields, outputs = _diffusers_fields(folder)
    return _model_config(fields, outputs, folder), outputs


def _transformer(folder: Path) -> Path:
    return folder / "transformer" if (folder / "transformer").is_dir() else folder


def _diffusers_fields(folder: Path) -> tuple[dict[str, int], int]:
    config = read_config(folder)
    for field, allowed in _ALLOWED.items():
        if config.get(field, allowed[0]) not in allowed:
            valid = " or ".join(map(repr, allowed))
            raise UserError(f"{folder / 'config.json'}: {field} = {config[field]!r}; a DiT has {valid}")
    count = partial(_count, config, folder / "config.json")
    heads, channels = count("num_attention_heads"), count("in_channels")
    fields = {
        "depth": count("num_layers"),
        "width": heads * count("attention_head_dim"),
        "heads": heads,
        "patch": count("patch_size"),
        "image_size": count("sample_size"),
        "channels": channels,
        "classes": count("num_embeds_ada_norm"),
    }
    return fields, channels if config.get("out_channels") is None else count("out_channels")


def read_config(folder: Path) -> dict[str, Any]:
    """Return the content of a folder's config.json; raise UserError if it is missing or not a JSON object."""
    path = folder / "config.json"
    try:
        content = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{folder}: {'no config.json' if folder.exists() else 'no such file or folder'}") from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({error})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a config: expected a JSON object")
    return content


def _build(fields: Mapping[str, Any], outputs: int, weights: Weights, path: Path, source: Source) -> DiT:
    m = _model_config(fields, outputs, path)
    model = DiT(m, outputs)
    load_weights(model, {"pos_embed": _position_embedding(m.image_size // m.patch, m.width), **weights}, str(path))
    model.source = source
    return model.eval()


def _model_config(fields: Mapping[str, Any], outputs: int, path: Path) -> ModelConfig:
    m = validate({"model": {"kind": "dit", **fields}}, str(path)).model
    if outputs not in (m.channels, 2 * m.channels):
        raise UserError(
            f"{path}: {outputs} output channels; allowed: {m.channels}, or {2 * m.channels} with a learned variance"
        )
    return m


def _shape(weights: Weights, name: str, dimensions: int, source: Path) -> tuple[int, ...]:
    if name not in weights:
        raise UserError(f"{source}: not the weights of a DiT: {name} is missing")
    if weights[name].dim() != dimensions:
        raise UserError(f"{source}: {name} has {weights[name].dim()} dimensions, expected {dimensions}")
    return tuple(weights[name].shape)


def _count(config: Mapping[str, Any], source: Path, field: str) -> int:
    if field not in config:
        raise UserError(f"{source}: {field} is missing")
    value = config[field]
    if type(value) is not int or value < 1:
        raise UserError(f"{source}: {field} = {value!r}, expected an integer >= 1")
    return value


def _official_weights(path: Path) -> tuple[Weights, Source]:
    content, source = _load_pickle(path)
    for part in ("ema", "model"):  # the parts of a training state
        if isinstance(content, dict) and isinstance(content.get(part), dict):
            content = content[part]
    return {name.removeprefix("module."): value for name, value in _check_weights(content, path).items()}, source


def _check_weights(content: Any, source: Path) -> Weights:
    """Return `content` if it is a dictionary of dense floating-point tensors by name; else raise UserError."""
    if not isinstance(content, dict) or not content:
        raise UserError(f"{source}: not weights: expected tensors by name")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise UserError(f"{source}: not weights: expected tensors by name")
        if value.dtype not in _PRECISIONS or value.layout != torch.strided or value.device.type != "cpu":
            raise UserError(f"{source}: {name} is {value.dtype}, {value.layout}; expected dense floating-point weights")
    return content


def _load_pickle(path: Path) -> tuple[Any, Source]:
    """Return tensors and plain values, and the arguments of a training state, which are a bare namespace."""
    try:
        content, origin = read_state(path, lambda: torch.serialization.safe_globals([argparse.Namespace]))
        return content, announced_source(path, origin)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except DamagedFile as damage:
        lines = str(damage.__cause__).splitlines() if damage.__cause__ else [damage.what]
        reason = next((line for line in lines if "GLOBAL" in line or "global" in line), "")
        details = f" ({reason.strip()})" if reason else ""
        raise UserError(
            f"{path}: not loaded: it is damaged or holds Python objects other than tensors{details}"
        ) from None


def _published_heads(width: int, source: Path) -> int:
    by_width = {size["width"]: size["heads"] for size in load_base("imagenet256")["sizes"]["dit"].values()}
    if width not in by_width:
        raise UserError(f"{source}: width {width} is not that of a published size; give the number of heads (heads)")
    return by_width[width]


def _diffusers_weights(folder: Path) -> tuple[Weights, Source]:
    path = folder / "diffusion_pytorch_model.safetensors"
    if path.exists():
        weights = read_weights(path)
        return _check_weights(weights.tensors, path), announced_source(path, weights.origin)
    path = path.with_suffix(".bin")
    if not path.exists():
        raise UserError(
            f"{folder}: has no diffusion_pytorch_model.safetensors and no .bin; sharded weights are not supported"
        )
    content, source = _load_pickle(path)
    return _check_weights(content, path), source


def _from_diffusers(theirs: Weights, depth: int, source: Path) -> Weights:
    """Return Diffusers' weights under the published names; UserError for missing or unknown names, or copies that
    differ."""
    blocks = {match[1] for name in theirs if (match := re.match(r"transformer_blocks\.(\d+)\.", name))}
    if len(blocks) != depth:
        raise UserError(f"{source}: weights of {len(blocks)} blocks, but config.json has num_layers = {depth}")
    names = _diffusers_names(depth)
    expected = {name for part in names.values() for name in part}
    faults = [f"{name} is missing" for name in sorted(expected - theirs.keys())]
    faults += [f"{name} is unknown" for name in sorted(theirs.keys() - expected)]
    if faults:
        raise UserError(f"{source}: {listed(faults)}")
    out = {}
    for name, part in names.items():
        values = [theirs[one] for one in part]
        if name in _IN_EVERY_BLOCK:
            for one, value in zip(part, values, strict=True):
                if value.shape != values[0].shape or not torch.allclose(value, values[0], 0, 0, equal_nan=True):
                    raise UserError(f"{source}: {one} differs from that of block 0; a DiT has one for all blocks")
            out[name] = values[0]
        elif len({value.shape for value in values}) > 1:
            raise UserError(f"{source}: {', '.join(part)} have different shapes")
        else:
            out[name] = torch.cat(values) if len(values) > 1 else values[0]
    return out


def _diffusers_names(depth: int) -> dict[str, list[str]]:
    """Return published name -> names in Diffusers' format."""
    out = {f"{ours}.{leaf}": [f"{theirs}.{leaf}"] for ours, theirs in _WHOLE.items() for leaf in _LEAVES}
    blocks = [(f"blocks.{i}", f"transformer_blocks.{i}") for i in range(depth)]
    for ours, theirs in _IN_EVERY_BLOCK.items():
        out[ours] = [f"{block}.{theirs}" for _, block in blocks]
    for leaf in _LEAVES:
        for block, other in blocks:
            out |= {f"{block}.{ours}.{leaf}": [f"{other}.{theirs}.{leaf}"] for ours, theirs in _IN_BLOCK.items()}
            out[f"{block}.attn.qkv.{leaf}"] = [f"{other}.{part}.{leaf}" for part in _STACKED]
    return out


def _position_embedding(side: int, width: int) -> Tensor:
    """Return the embedding as the official files have it, rounded once from double precision: (1, side^2, D)."""
    row, column = np.divmod(np.arange(side * side), side)
    frequency = 10000.0 ** (-np.arange(width // 4) / (width // 4))
    angles = [np.outer(position, frequency) for position in (column, row)]
    table = np.concatenate([wave(angle) for angle in angles for wave in (np.sin, np.cos)], axis=1)
    return torch.from_numpy(table).float()[None]
