"""How close each benchmark comes to what the machine was measured to do."""

from reports import markdown as md
from reports.bench import text as words
from reports.bench.page import Page
from reports.bench.stored import Run

COLUMNS = ["suite", "group", "name", "bound", "share_of_bound", "median_ms", "macs", "bytes"]


def page(run: Run) -> Page | None:
    """roofline.md and .csv; None where no benchmark has a bound."""
    bounded = run.timings[run.timings.share_of_bound.notna()]
    if bounded.empty:
        return None
    table = bounded[COLUMNS].sort_values("share_of_bound", kind="stable").reset_index(drop=True)
    shown = table[["suite", "group", "name", "bound"]].assign(share=words.each(table.share_of_bound, ".3f"))
    text = (
        "# Shares of the bound\n\n"
        f"{_peaks(run)} A call needs at least its multiply-adds at the one pace and its bytes at the other; `bound` is "
        "the longer of the two, the share is that time over the time measured. The furthest from its bound comes "
        f"first. {run.about(bounded)}.\n\n{md.table(shown)}"
    )
    return Page("roofline", text, {"roofline": table})


def _peaks(run: Run) -> str:
    peaks = run.content["peaks"]
    matmul, copy = peaks["matmul"]["macs_per_second"] / 1e9, peaks["copy"]["bytes_per_second"] / 1e9
    return (
        f"In a second of this run a matrix product did {matmul:,.1f} G multiply-adds, and a copy moved {copy:,.1f} GB."
    )
