"""Time and memory of a token against length, for S4D by each backend, attention and a copy."""

import pandas as pd

from reports import markdown as md
from reports.bench import figures as drawing
from reports.bench import missing
from reports.bench import text as words
from reports.bench.crossings import ATTENTION, S4D, crossings
from reports.bench.page import Page
from reports.bench.rows import TIMED
from reports.bench.stored import Run

SUITE = "mixers"
SETTING = ["pass", "width", "dtype"]  # what is the same along a curve


def page(run: Run) -> Page | None:
    """lengths.md, .png and .csv, and crossings.csv; None where no subject was timed at two lengths."""
    timings = run.timings[run.timings.suite == SUITE]
    points = per_token(timings)
    if points.empty:
        return None
    crossed, about = crossings(points), run.about(timings[timings.status == TIMED])
    text = (
        "# Time and memory against length\n\n"
        f"Mixers alone, per token of the B L of a call. {about}. Time: median and its 95 % interval. Memory: the peak "
        "above what stood before the call. S4D stands for its fastest backend at each length; between the lengths "
        "measured lines are straight in log-log.\n\n"
        f"{md.bullets(crossed.says)}\n{missing.listed(timings)}{_tables(points)}"
    )
    figure = drawing.against_length(points, crossed, [missing.counted(timings), about])
    return Page("lengths", text, {"lengths": points, "crossings": crossed}, figure)


def compares(run: Run) -> bool:
    """Whether in some setting both S4D, by any backend, and attention were timed at two lengths."""
    points = per_token(run.timings[run.timings.suite == SUITE])
    rival = points.subject.mask(points.subject.str.startswith(S4D), S4D)
    counts = points.groupby(["setting", rival]).length.nunique().unstack(fill_value=0)
    return {S4D, ATTENTION} <= {*counts} and bool((counts[[S4D, ATTENTION]] >= 2).all(axis=1).any())


def per_token(timings: pd.DataFrame) -> pd.DataFrame:
    """A row for each subject, setting and length, of settings with at least two lengths: `setting` in words,
    nanoseconds a token with low and high, bytes a token (NaN where no memory was measured)."""
    timed = timings[(timings.status == TIMED) & timings.length.notna() & timings.batch.notna()]
    tokens = (timed.batch * timed.length).astype(float)
    table = pd.DataFrame(
        {
            "setting": [f"{row['pass']}, D = {row['width']}, {row['dtype']}" for row in timed.to_dict("records")],
            "subject": timed.subject,
            **{name: timed[name] for name in SETTING},
            "length": timed.length,
            "batch": timed.batch,
            "ns_per_token": 1e6 * timed.median_ms / tokens,
            "ns_low": 1e6 * timed.low_ms / tokens,
            "ns_high": 1e6 * timed.high_ms / tokens,
            "bytes_per_token": timed.peak_memory.astype(float) / tokens,
        }
    )
    curves = table[table.groupby("setting").length.transform("nunique") >= 2].sort_values("length", kind="stable")
    in_order = curves.sort_values(["setting", "subject"], key=lambda names: names.map(_places(names.sort_index())))
    return in_order.reset_index(drop=True)


def _places(names: pd.Series) -> dict[str, int]:
    """Of each name, its place among those of the run."""
    return {name: place for place, name in enumerate(names.unique())}


def _tables(points: pd.DataFrame) -> str:
    """For each setting one of time and one of memory, lengths down and subjects across."""
    text = ""
    for setting, of_setting in points.groupby("setting", sort=False):
        microseconds = words.each(of_setting.ns_per_token / 1e3, ".3g")
        intervals = words.intervals(of_setting.ns_low / 1e3, of_setting.ns_high / 1e3, ".3g")
        cells = {"µs a token": [f"{one} ({ends})" for one, ends in zip(microseconds, intervals, strict=True)]}
        cells["kB a token"] = words.each(of_setting.bytes_per_token / 1e3, ",.3g")
        for unit, cell in cells.items():
            wide = of_setting.assign(cell=cell).pivot(index="length", columns="subject", values="cell")
            shown = wide[of_setting.subject.unique()].reset_index().rename(columns={"length": f"L ({unit})"})
            text += f"## {setting}: {unit}\n\n{md.table(shown)}\n"
    return text.removesuffix("\n")
