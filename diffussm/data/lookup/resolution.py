"""From a base and overrides to a config that fits its data, as far as those are there."""

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from diffussm.config import FROM_DATA, LATENT_FIELDS, Config, DataConfig, merge, validate
from diffussm.data.catalogue import CATALOGUE, DataFacts
from diffussm.data.lookup.facts import describe_missing, find
from diffussm.errors import UserError


def resolve_with_data(base: str, overrides: Mapping[str, Any] | None = None) -> Config:
    """Return the config of a base, or of a recipe in a `.toml` file, with dotted-key overrides.

    Of a prepared data set and of an external class, image size, channels and classes are taken where neither sets them,
    and digest and transform; of a prepared one the folder too. Until the data are there, the digest stays empty.
    Raises UserError, which names the field.
    """
    tree = merge(base, overrides)
    data = _data_section(json.dumps(tree.get("data", {}), default=str), base)
    known, model = find(data), tree["model"]
    if data.name in CATALOGUE:
        return validate(tree, base)
    unset = [field for field in FROM_DATA if field not in model]
    if known:
        tree["model"] = model | {field: getattr(known, field) for field in unset}
        root = str(known.folder) if known.folder else data.root
        filled = {"root": root, "digest": known.sha256, "transform": known.transform, **_latent_fields(known)}
        tree["data"] = data.model_dump(mode="json") | filled
    elif unset:
        fields = ", ".join(f"model.{field}" for field in unset)
        raise UserError(f"{describe_missing(data)}; to plan without it, set {fields}")
    return validate(tree, base)


def _latent_fields(known: DataFacts) -> dict[str, Any]:
    """Return what a config states of latents."""
    stated = known.latents or DataConfig()
    return {field: getattr(stated, field) for field in LATENT_FIELDS}


@lru_cache(maxsize=256)  # most arms of a grid share it
def _data_section(content: str, base: str) -> DataConfig:
    return validate({"data": json.loads(content)}, base).data
