"""Time and memory per token over length, for S4D with each backend, attention and the identity mixer."""

import pandas as pd

from reports import markdown as md
from reports.bench import figures, formatting, missing
from reports.bench.crossings import ATTENTION, S4D, crossings
from reports.bench.page import Page
from reports.bench.rows import TIMED
from reports.bench.stored import Run

SUITE = "mixers"
SETTING = ["pass", "width", "dtype"]  # constant along a curve


def page(run: Run) -> Page | None:
    """Return the page lengths, with crossings.csv; None if no subject was timed at two lengths."""
    timings = run.timings[run.timings.suite == SUITE]
    points = per_token(timings)
    if points.empty:
        return None
    crossed, about = crossings(points), run.about(timings[timings.status == TIMED])
    text = (
        "# Time and memory over length\n\n"
        f"Mixers alone, per token, where a call has B L tokens. {about}. Time: median and its 95 % interval. Memory: "
        "the peak above the level before the call. In comparisons, S4D is represented by its fastest backend at each "
        "length; crossings are interpolated linearly in log-log coordinates.\n\n"
        f"{md.bullets(crossed.says)}\n{missing.bullets(timings)}{_tables(points)}"
    )
    figure = figures.against_length(points, crossed, [missing.summary(timings), about])
    return Page("lengths", text, {"lengths": points, "crossings": crossed}, figure)


def compares(run: Run) -> bool:
    """Return whether S4D, with any backend, and attention were both timed at two lengths in the same setting."""
    points = per_token(run.timings[run.timings.suite == SUITE])
    mixer = points.subject.mask(points.subject.str.startswith(S4D), S4D)
    counts = points.groupby(["setting", mixer]).length.nunique().unstack(fill_value=0)
    return {S4D, ATTENTION} <= {*counts} and bool((counts[[S4D, ATTENTION]] >= 2).all(axis=1).any())


def per_token(timings: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each subject, setting and length, of settings with at least two lengths: `setting` as text,
    nanoseconds per token with low and high, bytes per token (NaN if memory was not measured)."""
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
    in_order = curves.sort_values(["setting", "subject"], key=lambda names: names.map(_positions(names.sort_index())))
    return in_order.reset_index(drop=True)


def _positions(names: pd.Series) -> dict[str, int]:
    """Return the position of each name, in order of first occurrence."""
    return {name: position for position, name in enumerate(names.unique())}


def _tables(points: pd.DataFrame) -> str:
    """Return a table of time and one of memory for each setting, with a row per length and a column per subject."""
    text = ""
    for setting, group in points.groupby("setting", sort=False):
        microseconds = formatting.each(group.ns_per_token / 1e3, ".3g")
        intervals = formatting.intervals(group.ns_low / 1e3, group.ns_high / 1e3, ".3g")
        cells = {"µs per token": [f"{one} ({ends})" for one, ends in zip(microseconds, intervals, strict=True)]}
        cells["kB per token"] = formatting.each(group.bytes_per_token / 1e3, ",.3g")
        for unit, cell in cells.items():
            wide = group.assign(cell=cell).pivot(index="length", columns="subject", values="cell")
            shown = wide[group.subject.unique()].reset_index().rename(columns={"length": f"L ({unit})"})
            text += f"## {setting}: {unit}\n\n{md.table(shown)}\n"
    return text.removesuffix("\n")
