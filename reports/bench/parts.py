"""How the time of a block is divided among its parts."""

import pandas as pd

from reports import markdown as md
from reports.bench import figures, formatting, missing
from reports.bench.page import Page
from reports.bench.rows import TIMED, shape
from reports.bench.stored import Run

SUITE, MIXER, WHOLE = "parts", "mixer", "whole block"


def page(run: Run) -> Page | None:
    """Return the page parts; None if no part was timed."""
    timings = run.timings[run.timings.suite == SUITE]
    table = shares(timings[timings.status == TIMED])
    if table.empty:
        return None
    about = run.about(timings[timings.status == TIMED])
    text = (
        "# The parts of a block\n\n"
        "The median of each part, timed by itself, as a share of the sum of all parts; and that sum over the time of "
        "the whole block. "
        f"{about}.\n\n{missing.bullets(timings)}{md.table(_shown(table))}"
    )
    figure = figures.shares_of_parts(table, MIXER, [missing.summary(timings), about])
    return Page("parts", text, {"parts": table}, figure)


def shares(timed: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each part of each block: `block` is its shape and pass as text, `share` is relative to the sum
    over its parts, `sum_over_whole` is that sum over the median of the whole block, NaN if that was not timed."""
    table = pd.DataFrame(
        {
            "block": [f"{shape(row)}, {row['pass']}" for row in timed.to_dict("records")],
            "part": timed.subject.to_numpy(),
            "median_ms": timed.median_ms.to_numpy(),
            "low_ms": timed.low_ms.to_numpy(),
            "high_ms": timed.high_ms.to_numpy(),
        }
    )
    whole = table[table.part == WHOLE].set_index("block").median_ms
    parts = table[table.part != WHOLE].reset_index(drop=True)
    total = parts.groupby("block").median_ms.transform("sum")
    return parts.assign(share=parts.median_ms / total, sum_over_whole=total / parts.block.map(whole))


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with a row for each block and a column for each part."""
    percent = table.assign(percent=formatting.each(100 * table.share, ".1f"))
    wide = percent.pivot(index="block", columns="part", values="percent")
    wide = wide.loc[table.block.unique(), table.part.unique()]
    wide["sum over whole"] = formatting.each(table.groupby("block", sort=False).sum_over_whole.first(), ".2f")
    return wide.reset_index().rename(columns={"block": "share (%)"})
