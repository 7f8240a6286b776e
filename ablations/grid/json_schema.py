"""Prints the JSON Schema of grid files, for editors: `python -m ablations.grid.json_schema >
ablations/grid.schema.json`.

A grid file refers to it in its first line: `#:schema path/to/grid.schema.json`.
"""

import json
from typing import Any

from ablations.grid.checks import AXIS_NAME
from ablations.grid.schema import GridFile, Resources
from diffussm.config import bases, config_keys
from diffussm.config.fields import SIZE, section_schemas


def schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a grid file, with every key that a level may set."""
    out = GridFile.model_json_schema()
    sections = section_schemas()
    for part in (*out["properties"].values(), *(p for s in sections.values() for p in s["properties"].values())):
        part.pop("title", None)
    for section in sections.values():
        section.pop("required", None)
    overrides = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "size": {"type": "string", "description": SIZE},
            "resources": Resources.model_json_schema(),
            **sections,
            **{key: _field(sections, key) for key in config_keys() if "." in key},
        },
    }
    properties = out["properties"]
    reference = {"$ref": "#/$defs/Overrides"}
    properties["axes"]["additionalProperties"]["additionalProperties"] = reference
    properties["axes"]["propertyNames"] = {"pattern": f"^{AXIS_NAME}$"}
    properties["arms"]["additionalProperties"] = reference
    properties["base"] = {
        "anyOf": [{"enum": bases()}, {"type": "array", "items": {"enum": bases()}, "minItems": 1}],
        "description": properties["base"]["description"],
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A grid of ablations",
        **{name: part for name, part in out.items() if name not in ("title", "$defs", "description")},
        "$defs": {"Overrides": overrides},
    }


def text() -> str:
    return json.dumps(schema(), indent=1, sort_keys=True) + "\n"


def _field(sections: dict[str, Any], key: str) -> dict[str, Any]:
    section, _, field = key.partition(".")
    return sections[section]["properties"][field]


if __name__ == "__main__":
    print(text(), end="")
