"""The config by which the model in a folder is sampled and measured: of a run, or of another program, such as a
published DiT."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffussm.config import Config, DataConfig, DiffusionConfig, load_base, validate
from diffussm.errors import UserError
from diffussm.metrics.external import default_extractor
from diffussm.models.pretrained import Description, describe_pretrained
from diffussm.vae.facts import VARIABLE, given_folder, vae_facts

LIKE_DIT = "imagenet256"  # the base whose evaluation is DiT's
_OF_SAMPLING = ("samples", "batch", "sampler", "sampler_steps", "clip", "guidance_channels")
_OF_IMAGES = (1, 3)  # channels


def folder_config(folder: Path, overrides: Mapping[str, Any]) -> Config:
    """Return the config, with `overrides` of fields of the evaluation; UserError for what does not fit.

    Diffusion and data are those that the folder states, or DiT's: 1000 timesteps, and of latents scale and shift as the
    config of the autoencoder has them. Of latents, the evaluation is by default as DiT's, of images the schema's.
    """
    if "weights" in overrides:
        raise UserError(f"evaluation.weights: {folder} has weights of one kind; leave it out")
    known = describe_pretrained(folder)
    diffusion = known.diffusion or _diffusion(known)
    of_pipeline = str(folder / "vae") if (folder / "vae").is_dir() else ""
    vae = str(overrides.get("vae") or "") or of_pipeline
    is_latents = known.model.channels not in _OF_IMAGES or "vae" in overrides
    data = known.data or _unknown_data(folder, known, vae if is_latents else None)
    evaluation: dict[str, Any] = {"extractor": default_extractor(data.name)}
    if data.decoded_size:
        evaluation |= {**_like_dit(known, overrides, diffusion), "vae": vae}
    tree = {
        "model": known.model.model_dump(mode="json"),
        "data": data.model_dump(mode="json"),
        "diffusion": diffusion.model_dump(mode="json"),
        "evaluation": evaluation | dict(overrides),
    }
    return validate(tree, str(folder))


def _like_dit(known: Description, overrides: Mapping[str, Any], diffusion: DiffusionConfig) -> dict[str, Any]:
    """Return how DiT samples; the first channels alone are guided, where there is guidance and there are more."""
    theirs = load_base(LIKE_DIT)["evaluation"]
    out = {name: theirs[name] for name in _OF_SAMPLING}
    out["sampler_steps"] = min(out["sampler_steps"], diffusion.timesteps)
    if overrides.get("guidance", 1.0) == 1 or known.model.channels <= out["guidance_channels"]:
        out["guidance_channels"] = 0
    return out


def _diffusion(known: Description) -> DiffusionConfig:
    learned = known.outputs > known.model.channels
    return DiffusionConfig(learned_variance=learned, loss="hybrid" if learned else "simple")


def _unknown_data(folder: Path, known: Description, vae: str | None) -> DataConfig:
    """Return the section of data that are not stated: images, or latents of the autoencoder in the folder `vae`, or in
    $DIFFUSSM_VAE if that is empty."""
    data = DataConfig(name=re.sub(r"[^\w.-]", "-", f"data-of-{folder.absolute().name}")[:80], transform="")
    if vae is None:
        return data
    if not (given := given_folder(vae)):
        raise UserError(
            f"{folder}: its {known.model.channels} channels are latents: give --vae, or set ${VARIABLE}, to the folder "
            "of the autoencoder that decodes them, in Diffusers' format"
        )
    facts = vae_facts(Path(given))
    of_latents = {
        "decoded_size": known.model.image_size * facts.factor,
        "scale": facts.scale,
        "shift": facts.shift,
    }
    return data.model_copy(update=of_latents)
