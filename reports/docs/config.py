"""The page on the fields of the config: docs/config.md, written by `make dictionary`."""

from pathlib import Path

import pandas as pd

from diffussm.config.fields import DescribedField, fields, sections
from reports import markdown as md

PAGE = Path(__file__).parents[2] / "docs" / "config.md"

HEAD = """# Config

Written by `make dictionary`. A run is described by these keys. A base (`diffussm/bases/*.toml`) sets some of them, a
level of a grid or `--set key=value` sets others, and the rest have their defaults. Lengths of sequences and sizes are
named by the letters of the [glossary](glossary.md#letters).
"""


def page() -> str:
    listed = fields()
    text = HEAD + "\n" + _table([field for field in listed if "." not in field.key])
    for section, meaning in sections().items():
        of_section = [field for field in listed if field.key.startswith(f"{section}.")]
        text += f"\n## {section}\n\n{meaning}\n\n{_table(of_section)}"
    return text


def _table(listed: list[DescribedField]) -> str:
    rows = [
        (f"`{field.key}`", field.allowed, field.default and f"`{field.default}`", field.description) for field in listed
    ]
    return md.table(pd.DataFrame(rows, columns=["key", "type or allowed values", "default", "description"]))
