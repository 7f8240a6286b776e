"""What a suite has no time of, in words."""

import pandas as pd

from reports import markdown as md
from reports.bench.rows import TIMED


def sentences(timings: pd.DataFrame) -> list[str]:
    """For each name, status and reason: the one benchmark's group, or how many benchmarks there are."""
    missing = timings[timings.status != TIMED]
    said = []
    for (name, status, reason), same in missing.groupby(["name", "status", "reason"], sort=False):
        where = same.group.iloc[0] if len(same) == 1 else f"{len(same)} benchmarks"
        said.append(f"{name} ({where}): {status}, {reason}")
    return said


def listed(timings: pd.DataFrame) -> str:
    """The same as a list in Markdown; empty where nothing is missing."""
    said = sentences(timings)
    return f"Without a time:\n\n{md.bullets(said)}\n" if said else ""


def reasons(timings: pd.DataFrame) -> list[str]:
    """Status and reason of each row; empty where it was timed."""
    rows = timings.to_dict("records")
    return ["" if row["status"] == TIMED else f"{row['status']}: {row['reason']}" for row in rows]
