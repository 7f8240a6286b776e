"""Models by the names of the literature, at the resolutions of images: no torch.

`DiT-S/2` to `DiT-XL/8` are Peebles and Xie's; `DiffuSSM-S` to `DiffuSSM-XL` the base `imagenet256`'s, at M = 2 unless
given as in `DiffuSSM-XL/M4`. A resolution is in pixels of the image, worked on as latents of Stable Diffusion's
auto-encoder (4 channels of an eighth the side) or, as `128px`, on the pixels themselves.
"""

import json
import re
import tomllib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from diffussm.config import Config, bases, changed, resolve, validate
from diffussm.errors import UserError, unknown
from diffussm.store.rundir import RunDir

BASE = "imagenet256"
LATENT_FACTOR, LATENT_CHANNELS, PIXEL_CHANNELS = 8, 4, 3
RESOLUTIONS = ("256", "512", "1024", "128px")  # of named models, where none is asked for

DIT = [f"DiT-{size}/{patch}" for size in ("S", "B", "L", "XL") for patch in (8, 4, 2)]
DIFFUSSM = [f"DiffuSSM-{size}" for size in ("S", "B", "L", "XL")]
NAMED = [*DIT, *DIFFUSSM]


def named(name: str, settings: Mapping[str, Any] | None = None) -> Config:
    """The config of a named model at its base's 32 x 32 latents, changed by `settings` (dotted keys)."""
    if (overrides := _overrides(name)) is None:
        raise unknown("model", name, NAMED)
    return resolve(BASE, {**overrides, **(settings or {})})


def _overrides(name: str) -> dict[str, Any] | None:
    """Overrides of the base `imagenet256` that make model `name`; None if it is no such name."""
    if match := re.fullmatch(r"DiT-(S|B|L|XL)/([1-9]\d*)", name):
        return {"model.kind": "dit", "size": match[1], "model.patch": int(match[2])}
    if match := re.fullmatch(r"DiffuSSM-(S|B|L|XL)(?:/M([1-9]\d*))?", name):
        return {"size": match[1], "model.hourglass": int(match[2] or 2)}
    return None


def configs(model: str, resolutions: tuple[str, ...], settings: Mapping[str, Any]) -> dict[str, Config]:
    """Resolution -> config of a named model, a base, a run's folder or a file, changed by `settings` (dotted keys).

    A file is JSON or TOML with the sections of the schema. Without `resolutions`, a named model has those of the
    literature and any other its own. UserError where they do not go together, or `model` is nothing of these.
    """
    overrides = _overrides(model)
    if "model.image_size" in settings and (resolutions or overrides):
        raise UserError("--set model.image_size: set by --resolution here, as a number of pixels")
    if overrides is not None:
        if said := sorted(overrides.keys() & settings.keys()):
            raise UserError(f"--set {said[0]}: {model} says it already")
        wanted = resolutions or RESOLUTIONS
        return {r: named(model, {**_images(r), **settings}) for r in wanted}
    make = _maker(model)
    own = make(settings)
    latents = own.data.name.endswith("-latents")
    if not resolutions:
        side = own.model.image_size
        return {f"{side * LATENT_FACTOR}" if latents else f"{side}px": own}
    labels = {r: r if latents else f"{r.removesuffix('px')}px" for r in resolutions}
    return {labels[r]: make({**_images(r, latents), **settings}) for r in resolutions}


def _maker(model: str) -> Callable[[Mapping[str, Any]], Config]:
    """Settings -> config, from a base or from what is stored."""
    if model in bases():
        return partial(resolve, model)
    path = Path(model)
    if not path.exists():
        raise unknown("model", model, [*NAMED, *bases(), "a run's folder", "a file"])
    stored = path / "config.json"
    if stored.is_file() and "diffussm" in (kept := _read(stored)):
        tree = _of_pretrained(kept)
    elif path.is_dir():
        run = RunDir(path)
        tree = run.config().model_dump(mode="json")
        if run.requests():
            tree["evaluation"] = run.latest_request().evaluation.model_dump(mode="json")
    else:
        tree = _read(path)

    def make(settings: Mapping[str, Any]) -> Config:
        if "size" in settings:
            raise UserError(f"--set size: only bases have sizes; {path} has model.depth, model.width, model.heads")
        return validate(changed(tree, settings), str(path))

    return make


def _of_pretrained(content: Mapping[str, Any]) -> dict[str, Any]:
    """Of a folder that `save_pretrained` wrote: the model, and whether it predicts a variance."""
    learned = content.get("outputs") != content.get("model", {}).get("channels")
    return {
        "model": content.get("model", {}),
        "diffusion": {"learned_variance": learned, "loss": "hybrid" if learned else "simple"},
    }


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text()
        content = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except (tomllib.TOMLDecodeError, json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{path}: neither JSON nor, as .toml, TOML ({error})") from None
    if isinstance(content, dict):
        content = content.get("config", content)
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds no sections of a config")
    return content


def _images(resolution: str, latents: bool = True) -> dict[str, Any]:
    """Overrides for images of that resolution."""
    match = re.fullmatch(r"([1-9]\d*)(px)?", resolution)
    if not match:
        raise UserError(f"--resolution {resolution}: give pixels a side, as in 256 for latents or 128px for pixels")
    side = int(match[1])
    if not latents:
        return {"model.image_size": side}
    if match[2]:
        return {
            "model.image_size": side,
            "model.channels": PIXEL_CHANNELS,
            "evaluation.guidance_channels": 0,  # all; 3 of 4 are guided where they are latents
        }
    if side % LATENT_FACTOR:
        raise UserError(f"--resolution {resolution}: latents need a multiple of {LATENT_FACTOR}")
    return {"model.image_size": side // LATENT_FACTOR, "model.channels": LATENT_CHANNELS}
