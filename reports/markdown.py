"""Data frames as GitHub tables, sentences as lists."""

from collections.abc import Iterable

import pandas as pd

from diffussm import tables


def table(frame: pd.DataFrame) -> str:
    """Return a GitHub table; numbers to the right."""
    numeric = [i for i, kind in enumerate(frame.dtypes) if pd.api.types.is_numeric_dtype(kind)]
    rows = (["" if pd.isna(value) else value for value in row] for row in frame.itertuples(index=False))
    return tables.markdown([str(name) for name in frame.columns], rows, numeric)


def bullets(sentences: Iterable[str]) -> str:
    return "".join(f"- {sentence}\n" for sentence in sentences)
