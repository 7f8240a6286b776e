"""Numbers of a table as they are read; nothing where there is no number."""

from collections.abc import Iterable

import pandas as pd


def each(values: Iterable[float], form: str) -> list[str]:
    return ["" if pd.isna(value) else format(value, form) for value in values]


def intervals(low: Iterable[float], high: Iterable[float], form: str) -> list[str]:
    pairs = zip(each(low, form), each(high, form), strict=True)
    return [f"{one} to {other}" if one and other else "" for one, other in pairs]
