"""What has no time, in words."""

import pandas as pd

from reports import markdown as md
from reports.bench.rows import TIMED


def listed(timings: pd.DataFrame) -> str:
    """A list in Markdown: a line for each name, status and reason, with the group, or how many there are; empty where
    nothing is missing."""
    said = []
    for (name, status, reason), same in _untimed(timings).groupby(["name", "status", "reason"], sort=False):
        where = same.group.iloc[0] if len(same) == 1 else f"{len(same)} benchmarks"
        said.append(f"{name} ({where}): {status}, {reason}")
    return f"Without a time:\n\n{md.bullets(said)}\n" if said else ""


def counted(timings: pd.DataFrame) -> str:
    """The names in a line, with how many benchmarks of each are missing, failed or skipped; empty likewise."""
    counts = _untimed(timings).groupby(["name", "status"], sort=False).size().reset_index(name="count")
    said = [f"{row['name']}: {row['count']} {row['status']}" for row in counts.to_dict("records")]
    return f"without a time (reasons in the text): {'; '.join(said)}" if said else ""


def reasons(timings: pd.DataFrame) -> list[str]:
    """Status and reason of each row; empty where it was timed."""
    rows = timings.to_dict("records")
    return ["" if row["status"] == TIMED else f"{row['status']}: {row['reason']}" for row in rows]


def _untimed(timings: pd.DataFrame) -> pd.DataFrame:
    return timings[timings.status != TIMED]
