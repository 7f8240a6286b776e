"""The fields of the config as pages and `--help` show them: key, allowed values, default and description."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from diffussm.config.overrides import config_keys, split_key
from diffussm.config.schema import Config

SIZE = "named size of the base: sets depth, width and heads where nothing else does"

LIMITS = {"minimum": ">= {}", "exclusiveMinimum": "> {}", "exclusiveMaximum": "< {}", "multipleOf": "multiple of {}"}


class DescribedField(NamedTuple):
    key: str  # dotted
    allowed: str
    default: str  # in TOML; empty where the base gives it
    description: str


def sections() -> dict[str, str]:
    """Return the description of each section."""
    return {name: part["description"] for name, part in section_schemas().items()}


def fields() -> list[DescribedField]:
    """Return every key that an override may set, in the order of the schema."""
    schemas, top = section_schemas(), Config.model_json_schema()["properties"]
    out = []
    for key in config_keys():
        section, field = split_key(key)
        if key == "size":
            out.append(DescribedField(key, "a size of the base", "", SIZE))
        else:
            schema = schemas[section]["properties"][field] if field else top[key]
            out.append(DescribedField(key, _allowed(schema), json.dumps(schema["default"]), schema["description"]))
    return out


def section_schemas() -> dict[str, Any]:
    """Return the JSON Schema of each section of the config."""
    schema = Config.model_json_schema()
    referred = {name: part["$ref"] for name, part in schema["properties"].items() if "$ref" in part}
    return {name: schema["$defs"][reference.rpartition("/")[2]] for name, reference in referred.items()}


def _allowed(schema: Mapping[str, Any]) -> str:
    """Return the values that a JSON Schema allows, in a few words."""
    match schema:
        case {"enum": values}:
            return ", ".join(values)
        case {"const": value}:
            return str(value)
        case {"anyOf": [{"enum": values}, {"pattern": ":"}]}:
            return ", ".join([*values, "package.module:Class"])
        case {"type": "array", "items": items}:
            return f"list of: {_allowed(items)}"
        case {"type": "boolean"}:
            return "true or false"
    found = [text.format(_number(schema[name])) for name, text in LIMITS.items() if name in schema]
    return f"{schema['type']} {', '.join(found)}".rstrip()


def _number(value: float) -> str:
    return "2^63" if value == 2**63 else str(value)
