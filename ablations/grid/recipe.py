"""The digests of a base as it is resolved, and of its data: equal names need not mean equal recipes."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from diffussm.config import Config, digest, is_extractor_file
from diffussm.data.lookup.facts import data_facts
from diffussm.data.lookup.resolution import resolve_with_data
from diffussm.metrics.reference.facts import reference_facts
from diffussm.metrics.requested_files import as_requested

_NOT_DIGESTED = {  # what changes no result, and the reference, which counts as data
    "training": {"checkpoint_minutes", "threads", "backend"},
    "data": {"root", "digest", "transform"},
    "evaluation": {"batch", "extractor_weights", "reference", "reference_file_sha256"},
}


class Recipe(NamedTuple):
    """What all arms of a grid begin with, before their own overrides and the settings of a launch."""

    base: str  # digest of the base's config
    data: str  # digest of the names and hashes of its data and of its reference


def recipe(base: str, settings: Mapping[str, Any]) -> Recipe:
    """Return the digests of a base as it is now, and of the data that it, or else the settings, say where to find.

    Only fields that differ from the schema's defaults are digested, so that a new field changes no digest.
    """
    config = as_requested(resolve_with_data(base, _of_data(settings)))
    evaluation, known = config.evaluation, data_facts(config)
    reference = reference_facts(evaluation.reference, evaluation.reference_file_sha256)
    data = {"data": [config.data.name, known.sha256, known.images, known.transform]}
    named = {} if evaluation.reference_file_sha256 else {"name": reference.name}  # a file is what it contains
    return Recipe(digest(_changed(config)), digest({**data, "reference": [named, reference.sha256, reference.images]}))


def _of_data(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that name the data, where they say in which folder those are."""
    if "data.root" not in settings:
        return {}
    return {key: value for key, value in settings.items() if key in ("data.root", "data.name")}


def _changed(config: Config) -> dict[str, Any]:
    """Return the fields, nested, that differ from their defaults and can change a result."""
    content, defaults = (one.model_dump(mode="json", exclude=_NOT_DIGESTED) for one in (config, Config()))
    if config.evaluation.extractor_weights_sha256 and is_extractor_file(config.evaluation.extractor):
        content["evaluation"]["extractor"] = ""  # a file is what it contains
    return {
        section: {field: value for field, value in values.items() if value != defaults[section][field]}
        for section, values in content.items()
        if isinstance(values, dict)
    }
