"""The autoencoder that decodes the samples of a config: its hash, and what is wrong with the one that is given. No
torch."""

import contextlib
from importlib.util import find_spec
from pathlib import Path

from diffussm.config import Config
from diffussm.data.lookup.facts import is_provisional
from diffussm.errors import UserError
from diffussm.vae.facts import VARIABLE, VaeFacts, given_folder, vae_facts

REMEDY = f"set evaluation.vae or ${VARIABLE} to a folder in Diffusers' format"


def is_decoded(config: Config) -> bool:
    """Return whether the config's samples are latents; UserError for what images do not need or latents contradict."""
    data, evaluation = config.data, config.evaluation
    if data.decoded_size:
        if data.vae_sha256 and evaluation.vae_sha256 not in ("", data.vae_sha256):
            raise UserError(
                f"evaluation.vae_sha256 = {evaluation.vae_sha256}: the latents of {data.name} are of an autoencoder "
                f"with sha256 {data.vae_sha256}; remove it"
            )
        return True
    for field in ("vae", "vae_sha256"):
        if (value := getattr(evaluation, field)) and not is_provisional(config):
            raise UserError(
                f"evaluation.{field} = {value}: {data.name} has images, not latents, and nothing is decoded; remove it"
            )
    return False


def vae_sha256(config: Config) -> str:
    """Return the hash of the autoencoder that decodes: that of the data, else the one that is stated, else that of the
    one given; "" for images, and where none is known yet. Raises as `is_decoded`."""
    return (_stated(config) or _given_sha256(config)) if is_decoded(config) else ""


def decoding(config: Config) -> str:
    """Return how the autoencoder is used, as a key states it: scale, shift, and its black and white; "" for images, and
    where the data do not say yet. Raises as `is_decoded`."""
    data = config.data
    if not is_decoded(config) or not data.scale:
        return ""
    given = (data.scale, data.shift, data.vae_range)
    scale, shift, limits = (",".join(map(repr, values)) for values in given)
    return f"scale={scale} shift={shift} range={limits}"


def requested_sha256(config: Config) -> str:
    """Return the hash to request: the one that is stated, else the same."""
    stated, data = config.evaluation.vae_sha256, config.data
    return stated or ((data.vae_sha256 or _given_sha256(config)) if data.decoded_size else "")


def given_vae(config: Config) -> VaeFacts:
    """Return the facts of the autoencoder that is given; UserError, which names the field, if there is none."""
    try:
        return vae_facts(Path(given_folder(config.evaluation.vae)))
    except UserError as error:
        raise UserError(f"{_field(config)}: {error}") from None


def missing_vae(config: Config) -> str:
    """Return what is missing before the config's samples can be decoded, in a line that names the field; "" if nothing.

    Raises as `is_decoded`.
    """
    if not is_decoded(config):
        return ""
    if not given_folder(config.evaluation.vae):
        return _absent(_stated(config))
    try:
        facts = given_vae(config)
    except UserError as error:
        return str(error)
    if problem := _misfit(config, facts):
        return f"{_field(config)} = {facts.folder}: {problem}"
    if not find_spec("diffusers"):
        return f"{_field(config)}: needs Diffusers, the extra `vae`: pip install 'diffussm[vae]'"
    return ""


def _misfit(config: Config, facts: VaeFacts) -> str:
    """Return in what the autoencoder differs from the one of the data or of the request; "" if in nothing."""
    model, data = config.model, config.data
    if (known := _stated(config)) not in ("", facts.sha256):
        whose = f"the latents of {data.name} are of one with" if data.vae_sha256 else "the one that was requested had"
        return f"has sha256 {facts.sha256}, but {whose} {known}; {REMEDY}"
    if facts.channels != model.channels:
        return f"its latents have {facts.channels} channels, those of {data.name} {model.channels}"
    if (side := model.image_size * facts.factor) != data.decoded_size:
        return (
            f"decodes latents of {model.image_size} x {model.image_size} to {side} pixels per side, but those of "
            f"{data.name} are of {data.decoded_size}"
        )
    return ""


def _stated(config: Config) -> str:
    return config.data.vae_sha256 or config.evaluation.vae_sha256


def _absent(known: str) -> str:
    return f"evaluation.vae: needs the autoencoder that encoded the data{f' (sha256 {known})' * bool(known)}: {REMEDY}"


def _given_sha256(config: Config) -> str:
    with contextlib.suppress(UserError):
        return given_vae(config).sha256 if given_folder(config.evaluation.vae) else ""
    return ""


def _field(config: Config) -> str:
    return "evaluation.vae" if config.evaluation.vae else f"${VARIABLE}"
