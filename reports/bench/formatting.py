"""Numbers as text; missing ones are empty."""

from collections.abc import Iterable

import pandas as pd


def each(values: Iterable[float], form: str) -> list[str]:
    """Return each value in the format `form`."""
    return ["" if pd.isna(value) else format(value, form) for value in values]


def intervals(low: Iterable[float], high: Iterable[float], form: str) -> list[str]:
    """Return each interval as "low to high"."""
    pairs = zip(each(low, form), each(high, form), strict=True)
    return [f"{start} to {end}" if start and end else "" for start, end in pairs]
