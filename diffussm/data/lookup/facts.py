"""What is known of a config's data set before it is loaded, and whether the model fits it."""

import difflib
import os
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from diffussm.config import LATENT_FIELDS, Config, DataConfig, is_external
from diffussm.data.catalogue import CATALOGUE, DataFacts
from diffussm.data.lookup.external import external_facts
from diffussm.data.prepared.location import SOURCES, missing_prepared, prepared_folder
from diffussm.data.prepared.manifest import MANIFEST, check_mirrored, read_manifest
from diffussm.errors import UserError

_DEFAULT = DataConfig()


def data_facts(config: Config) -> DataFacts:
    """Return the facts of the config's data set: embedded, external or prepared.

    Of a prepared data set that is not there yet, what the model states, and how to make it. Raises UserError for an
    option that the data set does not read, and for a digest that is not its own.
    """
    if found := find(config.data):
        return found
    return replace(stated_facts(config), missing_requirement=_what_is_missing(config.data, config.model.image_size))


def stated_facts(config: Config) -> DataFacts:
    """Return the facts of the config's data set as the config states them, without a look at the data.

    So runs are evaluated, and their records are found, where their data are not.
    """
    if config.data.name in CATALOGUE:
        return CATALOGUE[config.data.name]
    model, data = config.model, config.data
    is_known = data.digest or is_external(data.name)
    return DataFacts(
        images=0,
        image_size=model.image_size,
        channels=model.channels,
        classes=model.classes,
        sha256=data.digest,
        transform=data.transform if is_known or data.decoded_size else "",
        decoded=(3, data.decoded_size) if data.decoded_size else None,
    )


def find(data: DataConfig) -> DataFacts | None:
    """Return the facts of a data set; None if it is a prepared one that is not there. Raises as `data_facts`."""
    if data.name in CATALOGUE:
        _check_unread(data)
        return CATALOGUE[data.name]
    if is_external(data.name):
        found = external_facts(data)
    elif folder := prepared_folder(data):
        status = os.stat(folder / MANIFEST)
        found = _prepared_facts(folder, status.st_ino, status.st_size, status.st_mtime_ns)
    else:
        _check_spelling(data)
        return None
    if data.digest not in ("", found.sha256):
        if not found.sha256:
            raise UserError(f"data.digest: {data.name} states none; remove it")
        place = f"{data.name} in {found.folder}" if found.folder else data.name
        raise UserError(
            f"data.digest = {data.digest}: {place} holds other images, with digest {found.sha256}; set data.root to "
            "the folder of those that are meant"
        )
    if not data.digest:
        _check_stated(data, found)
    return found


def _check_stated(data: DataConfig, found: DataFacts) -> None:
    """Raise UserError if a recipe expects other data."""
    decoded = found.decoded[1] if found.decoded else 0
    for field, actual in (("transform", found.transform), ("decoded_size", decoded)):
        stated = getattr(data, field)
        if stated not in (getattr(DataConfig(), field), actual):
            place = f"{data.name} in {found.folder}" if found.folder else data.name
            raise UserError(f"data.{field} = {stated}: {place} has {actual or 'none'}; prepare others, or change it")


@lru_cache(maxsize=256)  # a plan asks for each of its arms
def _prepared_facts(folder: Path, *_version: int) -> DataFacts:
    manifest = read_manifest(folder)
    return DataFacts(
        manifest.count,
        manifest.image_size,
        manifest.channels,
        len(manifest.classes),
        sha256=manifest.digest,
        transform=manifest.transform,
        class_names=manifest.classes,
        folder=folder,
        decoded=(3, manifest.latents.decoded_size) if manifest.latents else None,
        latents=manifest.latents,
        flips=manifest.flips,
    )


def find_required(data: DataConfig) -> DataFacts:
    """Return the facts of a data set that is there; raise UserError, with what makes it, if it is not."""
    found = find(data)
    if found is None or found.missing_requirement:
        raise UserError(describe_missing(data, found.missing_requirement if found else ""))
    return found


def is_provisional(config: Config) -> bool:
    """Return whether the run id lacks the digest of data that are not there yet: with them it will be another one."""
    data = config.data
    return not data.digest and data.name not in CATALOGUE and not is_external(data.name) and find(data) is None


def check_fit(config: Config) -> None:
    """Raise UserError if the model's image size, channels or classes differ from those of the data, or if these cannot
    be mirrored as the config says."""
    known, model = data_facts(config), config.model
    for field in ("image_size", "channels"):
        if getattr(model, field) != getattr(known, field):
            raise UserError(
                f"model.{field} = {getattr(model, field)}: {config.data.name} has {field} {getattr(known, field)}"
            )
    if model.classes not in (0, known.classes):
        allowed = f"{known.classes}; allowed: {known.classes}, or 0 for none" if known.classes else "none; allowed: 0"
        raise UserError(f"model.classes = {model.classes}: {config.data.name} has {allowed}")
    if config.data.flip and known.latents and known.folder:
        check_mirrored(known.folder, known.flips)


def missing_data(config: Config) -> str:
    """Return what the user must provide before the config's data set can be used, in a line that names the field; "" if
    nothing."""
    missing = data_facts(config).missing_requirement
    return describe_missing(config.data, missing) if missing else ""


def describe_missing(data: DataConfig, missing: str = "") -> str:
    """Return the line for a data set that is not there."""
    return f"data.name = {data.name}: needs {missing or _what_is_missing(data, 'SIDE')}"


def _check_unread(data: DataConfig) -> None:
    """Raise UserError for an option that an embedded data set does not read."""
    if data.root:
        raise UserError(
            f"data.root = {data.root}: {data.name} is embedded, and reads no folder; set data.name to another name for "
            "a prepared data set, or remove data.root"
        )
    for field in ("digest", "transform", *LATENT_FIELDS):
        if getattr(data, field) != getattr(_DEFAULT, field):
            raise UserError(f"data.{field}: {data.name} is embedded, and does not read it; remove it")


def _check_spelling(data: DataConfig) -> None:
    """Raise UserError for what must be a misspelt name: data of that name are nowhere stated to be."""
    if _nearest(data) and not data.root and not data.digest:
        raise UserError(describe_missing(data))


def misspelt(data: DataConfig) -> str:
    """Return the embedded data set that is perhaps meant by the name of a prepared one; "" if none is."""
    nearest = "" if data.name in CATALOGUE or is_external(data.name) else _nearest(data)
    return "" if data.name.startswith(nearest) else nearest  # photos64 is meant


def _nearest(data: DataConfig) -> str:
    return next(iter(difflib.get_close_matches(data.name, CATALOGUE, n=1, cutoff=0.8)), "")


def _what_is_missing(data: DataConfig, image_size: int | str) -> str:
    hint = f"did you mean {_nearest(data)!r}? " if _nearest(data) else ""
    embedded = ", ".join(sorted(name for name, facts in CATALOGUE.items() if not facts.missing_requirement))
    others = "" if data.root or data.name in SOURCES else f" ({hint}embedded: {embedded})"
    return f"a prepared data set{others}, {missing_prepared(data, image_size)}"
