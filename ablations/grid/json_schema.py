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

ABOUT = {
    "claim": "what the grid tests, in a sentence",
    "source": "where the claim comes from",
    "expected": "the expected result, stated before the grid is run",
    "cost": "the measured cost of running the grid",
    "command": "the command that runs the grid",
    "base": "the recipe that the levels vary, or several",
    "seeds": "the number of seeds, counted from 0, or a list of seeds",
    "matched": "quantities that are equal across arms (checked at launch)",
    "axes": "each axis a table of named levels, each level a table of overrides (and resources)",
    "combine": "product: every combination; one-at-a-time: the control, and the control with one axis moved",
    "zip": "groups of axes that move together",
    "when": "axis = { other axis = level or levels }: where the axis applies; elsewhere it is omitted",
    "include": "combinations of levels to add",
    "exclude": "combinations of levels to remove; a list of levels stands for any of them",
    "arms": "named arms, each a table of overrides (and resources)",
    "control": "the arm to start from (one-at-a-time) or to match (budget): its name, or axis = level",
    "budget": "what is equal in the training of every arm: steps, or total training MACs",
    "max_runs": "the largest number of runs to plan",
}


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
    for name, description in ABOUT.items():
        properties[name]["description"] = description
    reference = {"$ref": "#/$defs/Overrides"}
    properties["axes"]["additionalProperties"]["additionalProperties"] = reference
    properties["axes"]["propertyNames"] = {"pattern": f"^{AXIS_NAME}$"}
    properties["arms"]["additionalProperties"] = reference
    properties["base"] = {
        "anyOf": [{"enum": bases()}, {"type": "array", "items": {"enum": bases()}, "minItems": 1}],
        "description": ABOUT["base"],
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
