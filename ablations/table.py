"""Tables as plain text with aligned columns."""

import json
from collections.abc import Sequence
from typing import Any


def text(rows: Sequence[dict[str, Any]], left_aligned: Sequence[str]) -> str:
    """The rows under their keys as headings. Columns named in `left_aligned` are left-aligned, others right-aligned."""
    if not rows:
        return ""
    columns = [[name, *(str(row[name]) for row in rows)] for name in rows[0]]
    aligned = []
    for column in columns:
        width = max(map(len, column))
        aligned.append([cell.ljust(width) if column[0] in left_aligned else cell.rjust(width) for cell in column])
    lines = ["  ".join(cells).rstrip() for cells in zip(*aligned, strict=True)]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def to_json(content: Any) -> str:
    return json.dumps(content, indent=1, allow_nan=False)


def to_line(content: Any) -> str:
    return json.dumps(content, allow_nan=False)


def duration(seconds: float | None) -> str:
    """A duration as text, with its two largest units."""
    if seconds is None:
        return "unknown"
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    days, h = divmod(hours, 24)
    if days:
        return f"{days:,} d {h} h"
    return f"{h} h {m:02d} min" if h else f"{m} min {s:02d} s" if m else f"{s} s"


def big(number: float | None) -> str:
    """A number with an SI prefix: 2.35 M, 36.1 E."""
    if number is None:
        return "unknown"
    for power, prefix in ((18, "E"), (15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if (scaled := number / 10**power) >= 1:
            return f"{scaled:,.0f} {prefix}" if scaled >= 100 else f"{scaled:.3g} {prefix}"
    return f"{number:g}"
