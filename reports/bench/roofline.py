"""Roofline: how close each benchmark comes to the measured peaks of the machine."""

from reports import markdown as md
from reports.bench import formatting
from reports.bench.page import Page
from reports.bench.stored import Run

COLUMNS = ["suite", "group", "name", "bound", "share_of_bound", "median_ms", "macs", "bytes"]


def page(run: Run) -> Page | None:
    """Return the page roofline; None if no benchmark has a bound."""
    bounded = run.timings[run.timings.share_of_bound.notna()]
    if bounded.empty:
        return None
    table = bounded[COLUMNS].sort_values("share_of_bound", kind="stable").reset_index(drop=True)
    shown = table[["suite", "group", "name", "bound"]].assign(share=formatting.each(table.share_of_bound, ".3f"))
    text = (
        "# Shares of the bound\n\n"
        f"{_peaks(run)} A call takes at least the time of its multiply-adds at the first rate, and of its "
        "bytes at the second; `bound` is the longer of the two, and the share is that time over the measured time. "
        f"Rows are sorted by their share. {run.about(bounded)}.\n\n{md.table(shown)}"
    )
    return Page("roofline", text, {"roofline": table})


def _peaks(run: Run) -> str:
    peaks = run.content["peaks"]
    matmul, copy = peaks["matmul"]["macs_per_second"] / 1e9, peaks["copy"]["bytes_per_second"] / 1e9
    return (
        f"In this run, matrix products reached {matmul:,.1f} G multiply-adds per second, and copies {copy:,.1f} GB per "
        "second."
    )
