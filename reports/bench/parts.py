"""Which part of a block takes how much of its time."""

import pandas as pd

from reports import markdown as md
from reports.bench import drawing
from reports.bench.page import Page
from reports.bench.rows import TIMED, shape
from reports.bench.stored import Run

SUITE, MIXER = "parts", "mixer"


def page(run: Run) -> Page | None:
    """parts.md, .png and .csv; None where no part was timed."""
    timings = run.timings[(run.timings.suite == SUITE) & (run.timings.status == TIMED)]
    if timings.empty:
        return None
    table = shares(timings)
    text = (
        "# The parts of a block\n\n"
        f"Medians of each part timed alone, as shares of their sum. {run.about(timings)}.\n\n{md.table(_shown(table))}"
    )
    return Page("parts", text, {"parts": table}, drawing.shares_of_parts(table, MIXER, run.about(timings)))


def shares(timings: pd.DataFrame) -> pd.DataFrame:
    """A row for each part of each block: `block` is its shape and pass in words, `share` of the sum over its parts."""
    table = pd.DataFrame(
        {
            "block": [f"{shape(row)}, {row['pass']}" for row in timings.to_dict("records")],
            "part": timings.subject,
            "median_ms": timings.median_ms,
            "low_ms": timings.low_ms,
            "high_ms": timings.high_ms,
        }
    ).reset_index(drop=True)
    return table.assign(share=table.median_ms / table.groupby("block").median_ms.transform("sum"))


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    percent = table.assign(percent=(100 * table.share).round(1))
    return percent.pivot(index="block", columns="part", values="percent").loc[
        table.block.unique(), table.part.unique()
    ].reset_index().rename(columns={"block": "share of time (%)"})  # fmt: skip
