"""Every benchmark of a run, timed or not, and every ratio."""

import pandas as pd

from reports import markdown as md
from reports.bench import formatting, missing
from reports.bench.page import Page
from reports.bench.stored import Run

MEDIANS = "Medians over rounds with their 95 % intervals."


def page(run: Run) -> Page | None:
    """Return the page timing, with ratios.csv; None if no benchmark was timed."""
    if not run.content["benchmarks"]:
        return None
    text = f"# All timings\n\n{MEDIANS} {run.about(run.timings)}.\n\n{md.table(_timings(run.timings))}"
    if len(run.ratios):
        text += f"\n## Ratios, measured in interleaved rounds\n\n{MEDIANS}\n\n{md.table(_ratios(run.ratios))}"
    return Page("timing", text, {"timing": run.timings, "ratios": run.ratios})


def _timings(table: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "suite": table.suite,
            "benchmark": table.group,
            "of": table.name,
            "median (ms)": formatting.each(table.median_ms, ".4g"),
            "95 % (ms)": formatting.intervals(table.low_ms, table.high_ms, ".4g"),
            "rounds": table.rounds,
            "peak memory (MB)": formatting.each(table.peak_memory.astype(float) / 1e6, ",.1f"),
            "G MACs": formatting.each(table.macs.astype(float) / 1e9, ".3g"),
            "share of bound": formatting.each(table.share_of_bound, ".2f"),
            "not timed": missing.reasons(table),
        }
    )


def _ratios(table: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "suite": table.suite,
            "benchmark": table.group,
            "pass": table["pass"],
            "of": table.of,
            "to": table.to,
            "ratio": formatting.each(table.ratio, ".2f"),
            "95 %": formatting.intervals(table.low, table.high, ".2f"),
            "rounds": table.n,
        }
    )
