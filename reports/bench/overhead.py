"""What S4D adds to a block: its time over that of the block with a copy in its place."""

import pandas as pd

from reports import markdown as md
from reports.bench import figures as drawing
from reports.bench import missing
from reports.bench import text as words
from reports.bench.page import Page
from reports.bench.rows import TIMED, shape
from reports.bench.stored import Run

SUITE, COPY = "blocks", "identity|copy"
COLUMNS = ["shape", "pass", "of", "to", "ratio", "low", "high", "n"]


def page(run: Run) -> Page | None:
    """copies.md, .png and .csv; None where no block was timed in turns with a copy."""
    table = ratios_to_a_copy(run.ratios)
    if table.empty:
        return None
    blocks = run.timings[run.timings.suite == SUITE]
    about = run.about(blocks[blocks.status == TIMED])
    text = (
        "# A block with S4D and with a copy\n\n"
        "Time of the block over that of the same block with a copy in place of the mixer, measured in turns: median "
        f"over rounds with its 95 % interval. {about}.\n\n{missing.listed(blocks)}{md.table(_shown(table))}"
    )
    return Page("copies", text, {"copies": table}, drawing.ratios_to_a_copy(table, [missing.counted(blocks), about]))


def ratios_to_a_copy(ratios: pd.DataFrame) -> pd.DataFrame:
    """COLUMNS, a row for each shape (in words) and pass."""
    chosen = ratios[(ratios.suite == SUITE) & ratios.to.str.contains(COPY)]
    shapes = pd.Series([shape(row) for row in chosen.to_dict("records")], index=chosen.index, dtype=object)
    return chosen.assign(shape=shapes)[COLUMNS].reset_index(drop=True)


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "shape": table["shape"],
            "pass": table["pass"],
            "of": table.of,
            "ratio": words.each(table.ratio, ".2f"),
            "95 %": words.intervals(table.low, table.high, ".2f"),
            "rounds": table.n,
        }
    )
