"""A stored run as tables: a row for each benchmark, timed or not, and one for each ratio."""

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

ID_COLUMNS = ("suite", "group", "name", "subject", "width", "length", "batch", "pass", "device", "dtype", "threads")
TIMED = "timed"
TIMINGS = (
    *ID_COLUMNS, "status", "reason", "median_ms", "low_ms", "high_ms", "q1_ms", "q3_ms", "rounds", "peak_memory",
    "macs", "headline_macs", "bytes", "items", "bound", "share_of_bound", "version",
)  # fmt: skip
WHOLE = (
    "width", "length", "batch", "threads", "rounds", "peak_memory", "macs", "headline_macs", "bytes", "items",
    "version", "n",
)  # fmt: skip
MEASURED = ("median_ms", "low_ms", "high_ms", "q1_ms", "q3_ms", "share_of_bound", "ratio", "low", "high")
RATIOS = (*ID_COLUMNS, "of", "to", "ratio", "low", "high", "n")


def timings(content: dict[str, Any]) -> pd.DataFrame:
    """Return a table of the columns TIMINGS: the timed benchmarks in the order of the run, then those without a time,
    with status and reason; their suite is that of timed benchmarks with the same title."""
    suites = {_title(benchmark): benchmark["extra_info"]["suite"] for benchmark in content["benchmarks"]}
    rows = [_timing(benchmark) for benchmark in content["benchmarks"]]
    rows += [{"suite": suites.get(_title(one)), **one} for one in content.get("without_time", [])]
    return _typed(pd.DataFrame(rows, columns=list(TIMINGS)))


def ratios(content: dict[str, Any]) -> pd.DataFrame:
    """Return a table of the columns RATIOS; `pass` is that of the ratio, the rest describes the benchmark that has
    it."""
    rows = [
        {**_about(benchmark), **ratio, "ratio": ratio["median"]}
        for benchmark in content["benchmarks"]
        for ratio in benchmark["extra_info"].get("ratios") or []
    ]
    return _typed(pd.DataFrame(rows, columns=list(RATIOS)))


def _title(benchmark: dict[str, Any]) -> str:
    """Return the part of a benchmark's group before pass and shape."""
    return str(benchmark["group"]).split(", ")[0]


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with nullable integers for whole numbers, and NaN for missing measurements."""
    whole = {name: table[name].astype(float).round().astype("Int64") for name in WHOLE if name in table}
    return table.assign(**whole, **{name: table[name].astype(float) for name in MEASURED if name in table})


def _about(benchmark: dict[str, Any]) -> dict[str, Any]:
    info = benchmark["extra_info"]
    return {**benchmark, **info, **info["shape"]}


def _timing(benchmark: dict[str, Any]) -> dict[str, Any]:
    stats, info = benchmark["stats"], benchmark["extra_info"]
    low, high = info["interval"]
    roofline = info.get("roofline") or {}
    return {
        **_about(benchmark),
        "status": TIMED,
        "median_ms": 1e3 * stats["median"],
        "low_ms": 1e3 * low,
        "high_ms": 1e3 * high,
        "q1_ms": 1e3 * stats["q1"],
        "q3_ms": 1e3 * stats["q3"],
        "rounds": stats["rounds"],
        "bound": roofline.get("bound"),
        "share_of_bound": roofline.get("share"),
    }


def shape(row: Mapping[Hashable, Any]) -> str:
    """D, L and B of a row as text, as far as it has them."""
    named = zip("DLB", ("width", "length", "batch"), strict=True)
    return ", ".join(f"{letter} = {int(row[name])}" for letter, name in named if pd.notna(row[name]))
