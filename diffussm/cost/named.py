"""Models by their names in the literature, at the resolutions of images. No torch.

`DiT-S/2` to `DiT-XL/8` are those of Peebles and Xie; `DiffuSSM-S` to `DiffuSSM-XL` are the sizes of the base
`imagenet256`, with M = 2 unless given, as in `DiffuSSM-XL/M4`. A resolution is in pixels of the image, which the model
sees as latents of Stable Diffusion's autoencoder (4 channels, an eighth of the side) or, as `128px`, as pixels.
"""

import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from diffussm.config import Config, apply_overrides, bases, is_recipe_file, resolve, validate
from diffussm.errors import UserError, unknown
from diffussm.store.rundir import RunDir

BASE = "imagenet256"
LATENT_FACTOR, LATENT_CHANNELS, PIXEL_CHANNELS = 8, 4, 3
RESOLUTIONS = ("256", "512", "1024", "128px")  # the default for named models

DIT = [f"DiT-{size}/{patch}" for size in ("S", "B", "L", "XL") for patch in (8, 4, 2)]
DIFFUSSM = [f"DiffuSSM-{size}" for size in ("S", "B", "L", "XL")]
NAMED = [*DIT, *DIFFUSSM]

Resolve = Callable[[str, Mapping[str, Any]], Config]


def named_config(name: str, settings: Mapping[str, Any] | None = None) -> Config:
    """Return the config of a named model on the 32 x 32 latents of its base, changed by `settings` (dotted keys)."""
    if (overrides := _overrides(name)) is None:
        raise unknown("model", name, NAMED)
    return resolve(BASE, {**overrides, **(settings or {})})


def _overrides(name: str) -> dict[str, Any] | None:
    """Return the overrides of the base `imagenet256` that make model `name`; None for any other name."""
    if match := re.fullmatch(r"DiT-(S|B|L|XL)/([1-9]\d*)", name):
        return {"model.kind": "dit", "size": match[1], "model.patch": int(match[2])}
    if match := re.fullmatch(r"DiffuSSM-(S|B|L|XL)(?:/M([1-9]\d*))?", name):
        return {"size": match[1], "model.hourglass": int(match[2] or 2)}
    return None


def configs(
    model: str, resolutions: tuple[str, ...], settings: Mapping[str, Any], resolve_base: Resolve = resolve
) -> dict[str, Config]:
    """Return resolution -> config of a named model, base, run folder or file, changed by `settings` (dotted keys).

    A file is a base in TOML, which `resolve_base` resolves, or JSON with the sections of the config. Without
    `resolutions`, a named model has those of the literature, and any other model its own. UserError for an unknown
    model and for conflicting settings.
    """
    overrides = _overrides(model)
    if model not in bases() and not is_recipe_file(model) and (of_data := sorted(filter(_is_of_data, settings))):
        option = "--data" if of_data[0] == "data.root" else f"--set {of_data[0]}"
        raise UserError(f"{option}: not used: {model} is counted without data; leave it out")
    if "model.image_size" in settings and (resolutions or overrides):
        raise UserError("--set model.image_size: use --resolution instead, which sets it")
    if overrides is not None:
        if fixed := sorted(overrides.keys() & settings.keys()):
            raise UserError(f"--set {fixed[0]}: the name {model} determines it already")
        return {r: named_config(model, {**_images(r), **settings}) for r in resolutions or RESOLUTIONS}
    make = _config_maker(model, resolve_base)
    own = make(settings)
    latents = own.data.decoded_size > 0
    if not resolutions:
        side = own.model.image_size
        return {f"{side * LATENT_FACTOR}" if latents else f"{side}px": own}
    labels = {r: r if latents else f"{r.removesuffix('px')}px" for r in resolutions}
    return {labels[r]: make({**_images(r, latents), **settings}) for r in resolutions}


def _is_of_data(key: str) -> bool:
    return key.startswith("data.")


def _config_maker(model: str, resolve_base: Resolve) -> Callable[[Mapping[str, Any]], Config]:
    """Return a function settings -> config, from a base, a run folder or a file."""
    path = Path(model)
    if model in bases() or (is_recipe_file(model) and path.is_file()):
        return partial(resolve_base, model)
    if not path.exists():
        raise unknown("model", model, [*NAMED, *bases()], "the path of a run folder or of a config file")
    stored = path / "config.json"
    if stored.is_file() and "diffussm" in (content := _read(stored)):
        tree = _from_pretrained(content)
    elif path.is_dir():
        run = RunDir(path)
        tree = run.config().model_dump(mode="json")
        if run.requests():
            tree["evaluation"] = run.latest_request().evaluation.model_dump(mode="json")
    else:
        tree = _read(path)

    def make(settings: Mapping[str, Any]) -> Config:
        if "size" in settings:
            raise UserError(
                f"--set size: only bases have sizes; set model.depth, model.width and model.heads of {path}"
            )
        return validate(apply_overrides(tree, settings), str(path))

    return make


def _from_pretrained(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of a folder that `save_pretrained` wrote: the model, and whether it predicts a variance."""
    learned = content.get("outputs") != content.get("model", {}).get("channels")
    return {
        "model": content.get("model", {}),
        "diffusion": {"learned_variance": learned, "loss": "hybrid" if learned else "simple"},
    }


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"{path}: not a regular file")
    try:
        content = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON ({error})") from None
    if isinstance(content, dict):
        content = content.get("config", content)
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a config: expected its sections")
    return content


def _images(resolution: str, latents: bool = True) -> dict[str, Any]:
    """Return the overrides for images of a resolution."""
    match = re.fullmatch(r"([1-9]\d*)(px)?", resolution)
    if not match:
        raise UserError(
            f"--resolution {resolution}: expected pixels per side, as in 256 for latents or 128px for pixels"
        )
    side = int(match[1])
    if not latents:
        return {"model.image_size": side}
    if match[2]:
        return {
            "model.image_size": side,
            "model.channels": PIXEL_CHANNELS,
            "evaluation.guidance_channels": 0,  # all channels; of latents, 3 of 4 are guided
        }
    if side % LATENT_FACTOR:
        raise UserError(f"--resolution {resolution}: must be a multiple of {LATENT_FACTOR} for latents")
    return {"model.image_size": side // LATENT_FACTOR, "model.channels": LATENT_CHANNELS}
