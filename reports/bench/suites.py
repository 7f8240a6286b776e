"""The times of a suite that has no figure of its own."""

import pandas as pd

from reports import markdown as md
from reports.bench import figures, formatting, missing
from reports.bench.page import Page
from reports.bench.rows import TIMED
from reports.bench.stored import Run

SUITES = ("blocks", "models", "sampling", "evaluation", "data", "planning", "startup")
COLUMNS = ["group", "name", "status", "reason", "median_ms", "low_ms", "high_ms", "items"]


def page(run: Run, suite: str) -> Page | None:
    """Return the page time_<suite>; None if no benchmark of the suite was timed."""
    timings = run.timings[run.timings.suite == suite]
    timed = timings[timings.status == TIMED]
    if timed.empty:
        return None
    table, about = timings[COLUMNS].reset_index(drop=True), run.about(timed)
    text = f"# Times of the suite {suite}\n\nMedians with their 95 % intervals. {about}.\n\n{md.table(_shown(table))}"
    return Page(f"time_{suite}", text, {f"time_{suite}": table}, figures.times(table, f"suite {suite}", [about]))


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "benchmark": table.group,
            "of": table.name,
            "median (ms)": formatting.each(table.median_ms, ".4g"),
            "95 % (ms)": formatting.intervals(table.low_ms, table.high_ms, ".4g"),
            "images per second": formatting.each(1e3 * table["items"].astype(float) / table.median_ms, ".4g"),
            "not timed": missing.reasons(table),
        }
    )
