"""Figures of benchmarks. Each function draws the given tables and returns the figure; it computes nothing."""

import textwrap
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from reports import style

MARKERS = "osD^vPX*"
SMALL, FAINT = 6.5, "0.35"
FINE: dict[str, Any] = {"markersize": 4, "linewidth": 1.2}
CHARACTERS_PER_INCH = 21  # of the small print


def against_length(points: pd.DataFrame, crossings: pd.DataFrame, notes: list[str]) -> Figure:
    """Time (top) and memory (bottom) over length, a column for each setting; log-log, crossings as dashed lines.

    points, crossings: as returned by `lengths.per_token` and `crossings.crossings`.
    """
    settings = list(dict.fromkeys(points.setting))
    figure, axes = style.subplots(
        2, len(settings), figsize=(max(3.4 * len(settings), 5.2), 6.2), layout="constrained", squeeze=False, sharex=True
    )
    colours = _colours(points.subject)
    without = [sentence for sentence, length in zip(crossings.says, crossings.length, strict=True) if pd.isna(length)]
    for column, setting in zip(axes.T, settings, strict=True):
        drawn, crossed = points[points.setting == setting], crossings[crossings.setting == setting]
        for subject, line in drawn.groupby("subject", sort=False):
            look: dict[str, Any] = {"color": colours[subject], "marker": _marker(colours, subject), **FINE}
            median, low, high = line.ns_per_token / 1e3, line.ns_low / 1e3, line.ns_high / 1e3
            column[0].errorbar(line.length, median, [median - low, high - median], label=subject, capsize=2, **look)
            held = line[line.bytes_per_token > 0]
            column[1].plot(held.length, held.bytes_per_token / 1e3, **look)
        for axis, quantity in zip(column, ("time", "memory"), strict=True):
            axis.set(xscale="log", yscale="log")
            _plain_ticks(axis.yaxis)
            _mark(axis, crossed[crossed.quantity == quantity].length.dropna())
        column[0].set_title(setting)
        column[1].set_xlabel("L, tokens")
        ticks = sorted(drawn.length.unique())
        column[1].set_xticks(ticks, [f"{tick:,}" for tick in ticks], rotation=45, ha="right")
        column[1].xaxis.minorticks_off()
    axes[0, 0].set_ylabel("time, µs per token")
    axes[1, 0].set_ylabel("peak memory, kB per token")
    handles = {label: handle for axis in axes[0] for label, handle in _legend(axis).items()}
    small: dict[str, Any] = {"ncols": min(len(handles), 5), "frameon": False, "fontsize": 8}
    figure.legend(handles.values(), handles, loc="outside upper center", **small)
    bars, dashed = (
        "bars: 95 % intervals of the median",
        "; dashed: from here on, attention takes more than S4D with its fastest backend",
    )
    _footer(figure, [bars + dashed if crossings.length.notna().any() else bars, *without, *notes])
    return figure


def shares_of_parts(table: pd.DataFrame, highlighted: str, notes: list[str]) -> Figure:
    """Return a stacked bar for each block; parts whose names contain `highlighted` are coloured.

    table: as returned by `parts.shares`.
    """
    blocks, parts = list(dict.fromkeys(table.block)), list(dict.fromkeys(table.part))
    sums = table.drop_duplicates("block").set_index("block").sum_over_whole.dropna()
    beside = {block: f"\nsum over whole block: {total:.2f}" for block, total in sums.items()}
    figure, axis = style.subplots(figsize=(7, 0.45 * len(blocks) + 1.9), layout="constrained")
    quiet = [part for part in parts if highlighted not in part]
    greys = dict(zip(quiet, sns.light_palette("0.55", n_colors=len(quiet)), strict=True))
    start = np.zeros(len(blocks))
    for part in parts:
        share = table[table.part == part].set_index("block").share.reindex(blocks).fillna(0).to_numpy()
        colour = greys.get(part, "C3")
        bars = axis.barh(blocks, 100 * share, left=100 * start, label=part, color=colour, edgecolor="white")
        inside = [f"{100 * one:.0f}" if one >= 0.04 else "" for one in share]
        axis.bar_label(bars, inside, label_type="center", fontsize=SMALL)
        start += share
    axis.set_yticks(range(len(blocks)), [block + beside.get(block, "") for block in blocks])
    axis.invert_yaxis()
    axis.set(xlim=(0, 100), xlabel="share of the parts' summed time, %")
    axis.grid(visible=False)
    figure.legend(loc="outside upper center", ncols=4, frameon=False, fontsize=7)
    _footer(figure, notes)
    return figure


def speedups(table: pd.DataFrame, notes: list[str]) -> Figure:
    """Two bars for each pair of models, multiply-adds and seconds (with their interval); a line at 1.

    table: as returned by `speedup.speedups`.
    """
    figure, axis = style.subplots(figsize=(6.5, 0.75 * len(table) + 1.5), layout="constrained")
    rows, height = np.arange(len(table)), 0.36
    spread = [table.seconds_lead - table.seconds_low, table.seconds_high - table.seconds_lead]
    macs = axis.barh(rows - height / 2, table.macs_lead, height, color="0.7", label="multiply-adds")
    seconds = axis.barh(
        rows + height / 2, table.seconds_lead, height, xerr=spread, color="C0", label="seconds, interleaved",
        error_kw={"capsize": 2, "linewidth": 1, "ecolor": "0.2"},
    )  # fmt: skip
    axis.bar_label(macs, ["" if np.isnan(one) else f"{one:.2f}" for one in table.macs_lead], padding=3, fontsize=7)
    axis.bar_label(seconds, [f"{one:.2f}" for one in table.seconds_lead], padding=3, fontsize=7)
    axis.axvline(1, color=FAINT, linestyle="--", linewidth=0.9)
    axis.set_yticks(rows, [f"{row['pairing']}\n{_wrapped(row['group'])}" for row in table.to_dict("records")])
    axis.invert_yaxis()
    axis.grid(visible=False, axis="y")
    axis.margins(x=0.12)
    axis.set(xlabel="speed-up of DiffuSSM: DiT over DiffuSSM (1: equal)", xlim=(0, None))
    figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize=8)
    _footer(figure, ["bars: 95 % intervals of the median", *notes])
    return figure


def overheads(table: pd.DataFrame, notes: list[str]) -> Figure:
    """Return a dot with its interval for each shape and pass; a line at 1.

    table: as returned by `overhead.overheads`.
    """
    shapes, colours = list(dict.fromkeys(table["shape"])), _colours(table["pass"])
    figure, axis = style.subplots(figsize=(6.2, 0.4 * len(shapes) + 1.5), layout="constrained")
    for i, (name, colour) in enumerate(colours.items()):
        dots = table[table["pass"] == name]
        rows = np.array([shapes.index(one) for one in dots["shape"]]) + 0.22 * (i - (len(colours) - 1) / 2)
        spread = [dots.ratio - dots.low, dots.high - dots.ratio]
        axis.errorbar(dots.ratio, rows, xerr=spread, fmt=_marker(colours, name), color=colour, capsize=2, label=name)
    axis.axvline(1, color=FAINT, linestyle="--", linewidth=0.9)
    axis.set_yticks(range(len(shapes)), shapes)
    axis.set(ylim=(len(shapes) - 0.5, -0.5), xlabel="time of the block with S4D over that with the identity mixer")
    figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=8)
    _footer(figure, ["bars: 95 % intervals of the median over interleaved rounds", *notes])
    return figure


def times(table: pd.DataFrame, title: str, notes: list[str]) -> Figure:
    """Return a dot with its interval for each benchmark of a suite, grouped; log axis. A benchmark without a time shows
    the reason.

    table: group, name, status, reason, median_ms, low_ms, high_ms.
    """
    groups = list(dict.fromkeys(table.group))
    heights = [(table.group == group).sum() + 1 for group in groups]
    size = (6.5, 0.22 * sum(heights) + 0.3 * len(groups) + 1)
    figure, axes = style.subplots(
        len(groups), 1, figsize=size, height_ratios=heights, squeeze=False, sharex=True, layout="constrained"
    )
    for axis, group in zip(axes[:, 0], groups, strict=True):
        rows = table[table.group == group].reset_index(drop=True)
        spread = [rows.median_ms - rows.low_ms, rows.high_ms - rows.median_ms]
        axis.errorbar(rows.median_ms, rows.index, xerr=spread, fmt="o", color="C0", markersize=4, capsize=2)
        for at, row in rows[rows.median_ms.isna()].iterrows():
            axis.text(
                0.01, at, f"{row.status}: {row.reason}", transform=axis.get_yaxis_transform(), va="center",
                fontsize=SMALL, color=FAINT, bbox={"color": "white", "pad": 1},
            )  # fmt: skip
        axis.set(xscale="log", ylim=(len(rows) - 0.5, -0.5))
        _plain_ticks(axis.xaxis)
        axis.set_title(group, loc="left", fontsize=8)
        axis.set_yticks(rows.index, rows["name"])
    axes[-1, 0].set(xlabel="milliseconds", xlim=(table.low_ms.min() / 2, 2 * table.high_ms.max()))
    figure.suptitle(title, fontsize=9)
    _footer(figure, ["bars: 95 % intervals of the median", *notes])
    return figure


def _legend(axis: Axes) -> dict[str, Any]:
    """Return the handle of each label."""
    handles, labels = axis.get_legend_handles_labels()
    return dict(zip(labels, handles, strict=True))


def _mark(axis: Axes, lengths: Iterable[float]) -> None:
    for length in lengths:
        axis.axvline(length, color=FAINT, linestyle="--", linewidth=0.9)
        axis.annotate(
            f"L = {length:,.0f}", (length, 0.97), xycoords=("data", "axes fraction"), xytext=(-3, 0),
            textcoords="offset points", rotation=90, ha="right", va="top", fontsize=SMALL, color=FAINT,
            bbox={"color": "white", "pad": 0.5},
        )  # fmt: skip


def _plain_ticks(axis: Axis) -> None:
    """Put ticks at 1, 2 and 5 of each decade, as plain numbers."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_locator(NullLocator())


def _footer(figure: Figure, lines: list[str]) -> None:
    """Put small print below the figure, wrapped to its width."""
    width = int(figure.get_figwidth() * CHARACTERS_PER_INCH)
    broken = [part for line in lines for part in textwrap.wrap(line, width)]
    figure.supxlabel("\n".join(broken), fontsize=SMALL, color=FAINT)


def _wrapped(text: str, width: int = 36) -> str:
    """Return the text in lines of at most `width`, without breaks around equals signs."""
    return textwrap.fill(text.replace(" = ", "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}"), width)


def _colours(names: Iterable[str]) -> dict[str, Any]:
    """Return a colour for each distinct name, in order of first occurrence."""
    distinct = list(dict.fromkeys(names))
    return dict(zip(distinct, sns.color_palette("colorblind", n_colors=len(distinct)), strict=True))


def _marker(colours: dict[str, Any], name: str) -> str:
    return MARKERS[list(colours).index(name) % len(MARKERS)]
