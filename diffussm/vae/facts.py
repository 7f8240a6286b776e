"""What is known of an autoencoder before its weights are read. No torch, no NumPy.

An autoencoder is a folder in the format of Diffusers: config.json and diffusion_pytorch_model.safetensors; of a
pipeline's folder, its subfolder `vae` is taken.
"""

import hashlib
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffussm.errors import UserError
from diffussm.store.hashes import file_sha256

VARIABLE = "DIFFUSSM_VAE"
CONFIG = "config.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"
MOST_CONFIG_BYTES = 1 << 20
Numbers = tuple[float, ...]
_NOT_OF_THE_NETWORK = {"scaling_factor", "shift_factor", "latents_mean", "latents_std", "force_upcast", "sample_size"}


@dataclass(frozen=True)
class VaeFacts:
    """An autoencoder of images of 3 channels."""

    folder: Path  # that of the files
    sha256: str  # of the fields of config.json that determine the network, and of the weights
    channels: int  # of latents
    factor: int  # pixels of an image per position of its latent, along a side
    scale: tuple[float, ...]  # as config.json has it, for all channels or for each
    shift: tuple[float, ...]

    def latent_shape(self, image_size: int) -> tuple[int, int, int]:
        """Return (C, h, w) of the latents of images of this size; UserError if there is none."""
        if image_size % self.factor:
            raise UserError(
                f"{self.folder}: its latents have 1/{self.factor} of the pixels per side, and {image_size} is no "
                f"multiple of {self.factor}"
            )
        side = image_size // self.factor
        return self.channels, side, side


def given_folder(folder: str) -> str:
    """Return the folder that is given, or else $DIFFUSSM_VAE; "" if neither is."""
    return folder or os.environ.get(VARIABLE, "")


def vae_facts(folder: Path) -> VaeFacts:
    """Return the facts of the autoencoder in a folder; UserError, which names it, if there is none."""
    folder = folder.expanduser()
    if (folder / "vae" / CONFIG).is_file():
        folder = folder / "vae"
    config = _read_config(folder)
    weights = folder / WEIGHTS
    if not weights.is_file():
        others = sorted(path.name for path in folder.glob("diffusion_pytorch_model*"))
        found = f"; {others[0]} is not read" if others else ""
        raise UserError(f"{folder}: holds no {WEIGHTS}{found}; save the autoencoder with Diffusers' save_pretrained")
    network = {name: value for name, value in config.items() if name[0] != "_" and name not in _NOT_OF_THE_NETWORK}
    content = json.dumps(network, sort_keys=True, separators=(",", ":")) + file_sha256(weights)
    channels = _integer(config, "latent_channels", folder)
    blocks = config.get("block_out_channels")
    if not isinstance(blocks, list) or not 1 <= len(blocks) <= 10:
        raise UserError(f"{folder / CONFIG}: block_out_channels: allowed: a list of 1 to 10 numbers")
    scale, shift = _scale_and_shift(config, channels, folder)
    sha256 = hashlib.sha256(content.encode()).hexdigest()
    return VaeFacts(folder, sha256, channels, 2 ** (len(blocks) - 1), scale, shift)


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.is_file():
        what = "holds no config.json" if folder.is_dir() else "no such folder"
        raise UserError(f"{folder}: {what}; an autoencoder is a folder in Diffusers' format")
    with path.open("rb") as file:
        content = file.read(MOST_CONFIG_BYTES + 1)
    try:
        config = json.loads(content) if len(content) <= MOST_CONFIG_BYTES else None
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise UserError(f"{path}: is not the config of an autoencoder")
    if (name := config.get("_class_name")) != "AutoencoderKL":
        raise UserError(f"{path}: is of class {str(name)[:40]!r}; read is Diffusers' AutoencoderKL")
    for field in ("in_channels", "out_channels"):
        if config.get(field, 3) != 3:
            raise UserError(f"{path}: {field}: read are autoencoders of images of 3 channels")
    return config


def _scale_and_shift(
    config: dict[str, Any], channels: int, folder: Path
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return scale and shift as Diffusers means them: latents_mean and latents_std are per channel."""
    factor = _numbers(config, "scaling_factor", 0.18215, 1, folder)[0]
    if not factor:
        raise UserError(f"{folder / CONFIG}: scaling_factor: must not be zero")
    if config.get("latents_mean") is None or config.get("latents_std") is None:
        return (factor,), _numbers(config, "shift_factor", 0.0, 1, folder)
    deviations = _numbers(config, "latents_std", None, channels, folder)
    if not all(deviations):
        raise UserError(f"{folder / CONFIG}: latents_std: must not be zero")
    return tuple(factor / deviation for deviation in deviations), _numbers(
        config, "latents_mean", None, channels, folder
    )


def _numbers(config: dict[str, Any], name: str, default: float | None, count: int, folder: Path) -> Numbers:
    value: Any = config.get(name)
    value = default if value is None else value
    values: list[Any] = value if isinstance(value, list) else [value]
    if len(values) != count or not all(type(v) in (int, float) and math.isfinite(v) for v in values):
        raise UserError(f"{folder / CONFIG}: {name}: allowed: {count} finite number{'s' * (count != 1)}")
    return tuple(map(float, values))


def _integer(config: dict[str, Any], name: str, folder: Path) -> int:
    value = config.get(name)
    if type(value) is not int or not 1 <= value <= 4096:
        raise UserError(f"{folder / CONFIG}: {name}: allowed: 1 .. 4096")
    return value
