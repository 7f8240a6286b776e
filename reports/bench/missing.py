"""Descriptions of the benchmarks that were not timed."""

import pandas as pd

from reports import markdown as md
from reports.bench.rows import TIMED


def bullets(timings: pd.DataFrame) -> str:
    """Return a Markdown list with a line for each name, status and reason, with its group or the number of benchmarks;
    empty if all were timed."""
    lines = []
    for (name, status, reason), same in _untimed(timings).groupby(["name", "status", "reason"], sort=False):
        where = same.group.iloc[0] if len(same) == 1 else f"{len(same)} benchmarks"
        lines.append(f"{name} ({where}): {status}, {reason}")
    return f"Not timed:\n\n{md.bullets(lines)}\n" if lines else ""


def summary(timings: pd.DataFrame) -> str:
    """Return one line with the number of missing, failed or skipped benchmarks of each name; empty if all were
    timed."""
    counts = _untimed(timings).groupby(["name", "status"], sort=False).size().reset_index(name="count")
    parts = [f"{row['name']}: {row['count']} {row['status']}" for row in counts.to_dict("records")]
    return f"not timed (reasons in the text): {'; '.join(parts)}" if parts else ""


def reasons(timings: pd.DataFrame) -> list[str]:
    """Return the status and reason of each row; empty if it was timed."""
    rows = timings.to_dict("records")
    return ["" if row["status"] == TIMED else f"{row['status']}: {row['reason']}" for row in rows]


def _untimed(timings: pd.DataFrame) -> pd.DataFrame:
    return timings[timings.status != TIMED]
