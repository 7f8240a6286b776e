"""Data frames as GitHub tables, sentences as lists."""

from collections.abc import Iterable

import pandas as pd


def table(frame: pd.DataFrame) -> str:
    """A GitHub table; numbers to the right."""
    numeric = [pd.api.types.is_numeric_dtype(kind) for kind in frame.dtypes]
    lines = [
        "| " + " | ".join(frame.columns.astype(str)) + " |",
        "|" + "|".join("---:" if right else "---" for right in numeric) + "|",
    ]
    for row in frame.itertuples(index=False):
        cells = ("" if pd.isna(value) else str(value).replace("|", "\\|") for value in row)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def bullets(sentences: Iterable[str]) -> str:
    return "".join(f"- {sentence}\n" for sentence in sentences)
