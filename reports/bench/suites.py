"""The times of one suite that has no figure of its own kind."""

import pandas as pd

from reports import markdown as md
from reports.bench import figures as drawing
from reports.bench import missing
from reports.bench import text as words
from reports.bench.page import Page
from reports.bench.rows import TIMED
from reports.bench.stored import Run

SUITES = ("blocks", "models", "sampling", "evaluation", "data", "planning", "startup")
COLUMNS = ["group", "name", "status", "reason", "median_ms", "low_ms", "high_ms", "items"]


def page(run: Run, suite: str) -> Page | None:
    """time_<suite>.md, .png and .csv; None where nothing of the suite was timed."""
    timings = run.timings[run.timings.suite == suite]
    timed = timings[timings.status == TIMED]
    if timed.empty:
        return None
    table, about = timings[COLUMNS].reset_index(drop=True), run.about(timed)
    text = f"# Times of the suite {suite}\n\nMedians with their 95 % intervals. {about}.\n\n{md.table(_shown(table))}"
    return Page(f"time_{suite}", text, {f"time_{suite}": table}, drawing.times(table, f"suite {suite}", [about]))


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "benchmark": table.group,
            "of": table.name,
            "median (ms)": words.each(table.median_ms, ".4g"),
            "95 % (ms)": words.intervals(table.low_ms, table.high_ms, ".4g"),
            "images a second": words.each(1e3 * table["items"].astype(float) / table.median_ms, ".4g"),
            "without a time": missing.reasons(table),
        }
    )
