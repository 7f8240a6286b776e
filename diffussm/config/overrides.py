"""Overrides: dotted keys of the schema and their values, as grids and `--set` give them."""

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from pydantic import BaseModel

from diffussm.config.schema import Config
from diffussm.errors import UserError


def config_keys() -> list[str]:
    """Return every dotted key that an override may set."""
    out = ["size"]
    for name, info in Config.model_fields.items():
        part = info.annotation
        if isinstance(part, type) and issubclass(part, BaseModel):
            out += [f"{name}.{field}" for field in part.model_fields]
        else:
            out.append(name)
    return out


def unknown_key(key: str, where: str = "") -> UserError:
    """Return the error for a key that the config does not have: it suggests the nearest one, and lists those of its
    section, or the sections. `where` names the file."""
    section, _, field = key.partition(".")
    keys = config_keys()
    sections = sorted({name.partition(".")[0] for name in keys})
    of_section = [name for name in keys if name.startswith(f"{section}.")]
    nearest = (
        [name for name in keys if name.rpartition(".")[2] == (field or section)]
        or [f"{section}.{name}" for name in _close(field, [name.partition(".")[2] for name in of_section])]
        or ([] if field else _close(section, sections))
        or _close(key, keys)
    )
    hint = f"did you mean {nearest[0]!r}? " if nearest and key not in sections else ""
    at = f"{where}: " if where else ""
    return UserError(f"{at}config key: unknown name {key!r}; {hint}valid: {', '.join(of_section or sections)}")


def _close(name: str, names: Sequence[str]) -> list[str]:
    return difflib.get_close_matches(name, names, n=1, cutoff=0.6)


@cache
def split_key(key: str) -> tuple[str, str | None]:
    """Return the section and the field of a dotted key, or a top-level field (or `size`) and None.

    Raises UserError if the schema has no such key.
    """
    section, _, field = key.partition(".")
    if key == "size":
        return key, None
    if section not in Config.model_fields:
        raise unknown_key(key)
    part = Config.model_fields[section].annotation
    if isinstance(part, type) and issubclass(part, BaseModel):
        if field not in part.model_fields:
            raise unknown_key(key)
        return section, field
    if field:
        raise unknown_key(key)
    return section, None


def apply_overrides(tree: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sections of a config with dotted keys set; the tree itself is not modified."""
    out = {name: dict(part) if isinstance(part, dict) else part for name, part in tree.items()}
    for key, value in overrides.items():
        section, field = split_key(key)
        if field is None:
            out[section] = value
        elif isinstance(part := out.setdefault(section, {}), dict):  # else validation rejects it
            part[field] = value
    return out


def parse_value(text: str) -> Any:
    """Return a value of the command line: parsed as TOML if it is valid TOML, else the bare string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def parse_settings(given: Sequence[str], data: str | None = None) -> dict[str, Any]:
    """Return the `--set` options, `section.field=value`, and that of `--data`, as a dict; raise UserError for one that
    is wrong."""
    out: dict[str, Any] = {}
    for setting in given:
        key, equals, value = setting.partition("=")
        if not equals:
            raise UserError(f"--set {setting}: give it as section.field=value")
        split_key(key)
        if key in out:
            raise UserError(f"--set {key}: given twice")
        out[key] = parse_value(value)
    if data is not None:
        if not data:
            raise UserError("--data: is empty; give a folder, or leave it out")
        if "data.root" in out:
            raise UserError("--data: --set data.root is given too; give one of them")
        out["data.root"] = data
    return out
