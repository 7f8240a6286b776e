"""The overhead of S4D in a block: its time over that of the block with the identity mixer."""

import pandas as pd

from reports import markdown as md
from reports.bench import figures, formatting, missing
from reports.bench.page import Page
from reports.bench.rows import TIMED, shape
from reports.bench.stored import Run

SUITE, IDENTITY = "blocks", "identity|copy"  # names of the identity mixer in stored runs
COLUMNS = ["shape", "pass", "of", "to", "ratio", "low", "high", "n"]


def page(run: Run) -> Page | None:
    """Return the page on overheads (stored as copies.md, its former name); None if no block was timed together with the
    identity mixer."""
    table = overheads(run.ratios)
    if table.empty:
        return None
    blocks = run.timings[run.timings.suite == SUITE]
    about = run.about(blocks[blocks.status == TIMED])
    text = (
        "# Overhead of S4D in a block\n\n"
        "Time of the block over that of the same block with the identity mixer, measured in interleaved rounds: median "
        f"over rounds with its 95 % interval. {about}.\n\n{missing.bullets(blocks)}{md.table(_shown(table))}"
    )
    return Page("copies", text, {"copies": table}, figures.overheads(table, [missing.summary(blocks), about]))


def overheads(ratios: pd.DataFrame) -> pd.DataFrame:
    """Return a table of COLUMNS with a row for each shape and pass."""
    chosen = ratios[(ratios.suite == SUITE) & ratios.to.str.contains(IDENTITY)]
    shapes = pd.Series([shape(row) for row in chosen.to_dict("records")], index=chosen.index, dtype=object)
    return chosen.assign(shape=shapes)[COLUMNS].reset_index(drop=True)


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "shape": table["shape"],
            "pass": table["pass"],
            "of": table.of,
            "ratio": formatting.each(table.ratio, ".2f"),
            "95 %": formatting.intervals(table.low, table.high, ".2f"),
            "rounds": table.n,
        }
    )
