"""Figures of grids. Each function draws the given tables and returns the figure; it computes nothing."""

import itertools
import math
import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MultipleLocator

from diffussm.metric import UNRELIABLE
from diffussm.metric_table import METRICS
from reports import style
from reports.grid import axes as axes_range
from reports.grid.axes import Range
from reports.grid.stats import LEAST_SEEDS

NOTE_HEIGHT = 0.13  # inches of a line below a figure
FAR_BELOW = 0.01  # of a value: on a logarithmic axis, an interval that reaches down to it leaves the axis
DODGE = 0.012  # of the last step: how far to the side the bars of one arm stand from those of the next


def fid_over_steps(
    curve: pd.DataFrame,
    arms: list[str],
    name: str,
    floor: float | None,
    title: str,
    steps: str,
    published: pd.DataFrame | None,
    unreliable: str = "",
) -> Figure:
    """FID over training steps, log y, one line per arm with its intervals; published curves in a panel of their own.

    curve: as returned by `tables.curves`; floor: FID of real images with the same n; published: curve, step, fid, and
    the arm of the grid whose colour the curve has; steps: the label of the x axis; unreliable: why FID is
    unreliable at this n, if it is.
    """
    panels = 1 if published is None else 2
    notes = _notes(curve, {"fid": unreliable} if unreliable else {}, 65 * panels)
    size = (4.2 * panels, 3.8 + NOTE_HEIGHT * (len(notes) - 1))
    figure, axes = style.subplots(1, panels, figsize=size, layout="constrained")
    ours: Axes = np.ravel(axes)[0]
    colours = _colours(arms)
    _lines(curve, colours, ours, Range(curve["mean"].min() * FAR_BELOW, math.inf))
    decisive = axes_range.decisive_range(curve, bool(unreliable))
    if floor is not None:
        ours.axhline(floor, color="0.35", linestyle="--", linewidth=1)
    _log_axis(ours, title, name)
    ours.set_xlabel(steps)
    axes_range.clip(ours, curve, decisive._replace(low=min(decisive.low, floor or decisive.low)))
    if floor is not None:
        _name_floor(ours, floor)
    if published is not None:
        theirs: Axes = axes[1]
        their_colours = {row.curve: colours.get(str(row.arm), "0.5") for row in published.itertuples()}
        sns.lineplot(published, x="step", y="fid", hue="curve", palette=their_colours, marker="s", ax=theirs)
        _log_axis(theirs, "reported in the paper (ImageNet 256)", "FID-50K")
        theirs.xaxis.set_major_locator(MultipleLocator(100_000))
        theirs.xaxis.set_major_formatter(lambda step, _: f"{step / 1000:.0f} k")
    figure.supxlabel("\n".join(notes), fontsize=7, color="0.35")
    return figure


def metrics_over_steps(
    curve: pd.DataFrame,
    arms: list[str],
    names: dict[str, str],
    title: str,
    steps: str,
    unreliable: Mapping[str, str] | None = None,
) -> Figure:
    """Return a small panel for each metric, one line per arm with its intervals.

    curve: as returned by `tables.all_curves`; names: the full name of the metric of each panel; unreliable: why metrics
    are unreliable at this n.
    """
    columns = 2 if len(names) == 4 else min(len(names), 3)
    rows = math.ceil(len(names) / columns)
    reasons = unreliable or {}
    notes = _notes(curve, reasons, max(45 * columns, 70))
    size = (max(2.6 * columns, 4.2), 2.1 * rows + 0.9 + NOTE_HEIGHT * (len(notes) - 1))
    figure, axes = style.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    colours = _colours(arms)
    for axis, (metric, name) in zip(axes.flat, names.items(), strict=False):
        drawn, shown = curve[curve.metric == metric], METRICS[metric]
        possible = Range(shown.least, shown.greatest)
        decisive = axes_range.decisive_range(drawn, metric in reasons)
        _lines(drawn, colours, axis, possible)
        handles, labels = axis.get_legend_handles_labels()
        axis.get_legend().remove()
        heading, _, setting = name.partition(" (")
        axis.set_title(f"{heading}{f' {UNRELIABLE}' * (metric in reasons)}: {shown.better} is better")
        axis.set(xlabel="", xlim=(0, None))
        axis.set_ylabel(setting.partition(")")[0], fontsize=7)
        if shown.better == "lower" and _spans_a_decade(drawn, decisive.low):
            _log_y(axis)
        axes_range.clip(axis, drawn, decisive, "top" if shown.better == "lower" else "bottom", possible)
    for axis in axes.flat[len(names) :]:
        axis.remove()
    for column in range(columns):
        axes[(len(names) - 1 - column) // columns, column].set_xlabel(steps)
    small: dict[str, Any] = {"fontsize": 7, "title_fontsize": 7, "ncols": 3, "frameon": False}
    figure.legend(handles, labels, loc="outside lower center", title="\n".join(notes), **small)
    figure.suptitle(title, fontsize=9)
    return figure


def _colours(arms: list[str]) -> dict[str, Any]:
    return dict(zip(arms, sns.color_palette(n_colors=len(arms)), strict=True))


def _name_floor(axis: Axes, floor: float) -> None:
    """Name the line of the noise floor, or say at the bottom that it lies below the axis."""
    note = f"noise floor {floor:.2f} (real images)"
    place: dict[str, Any] = {"x": 0.98, "ha": "right", "va": "bottom", "fontsize": 7, "color": "0.35"}
    if floor < axis.get_ylim()[0]:
        axis.text(y=0.02, s=f"{note}, below the axis", transform=axis.transAxes, **place)
    else:
        axis.text(y=floor * 1.04, s=note, transform=axis.get_yaxis_transform(), **place)


def _lines(curve: pd.DataFrame, colours: dict[str, Any], axis: Axes, possible: Range) -> None:
    """Draw a line for each arm, with its band over seeds and its bars over samples, as far as they are `possible`.

    Bars of arms at one step stand side by side.
    """
    ends = ["seeds_low", "seeds_high", "samples_low", "samples_high"]
    drawn = curve.assign(**{end: curve[end].clip(*possible) for end in ends})
    drawn["x"] = drawn.step + drawn.arm.map(_shifts(curve, list(colours)))
    sns.lineplot(drawn, x="x", y="mean", hue="arm", hue_order=list(colours), palette=colours, marker="o", ax=axis)
    for arm, group in drawn.groupby("arm"):
        colour = colours[str(arm)]
        axis.fill_between(group.x, group.seeds_low, group.seeds_high, color=colour, alpha=0.15, linewidth=0)
        axis.vlines(group.x, group.samples_low, group.samples_high, color=colour, linewidth=0.9)


def _shifts(curve: pd.DataFrame, arms: list[str]) -> dict[str, float]:
    """Return how far to the side each arm is drawn, so that no bar hides another; not at all where there are none."""
    steps = sorted({0, *curve.step})
    if curve.samples_low.isna().all() or len(steps) < 2:
        return dict.fromkeys(arms, 0.0)
    closest = min(later - earlier for earlier, later in itertools.pairwise(steps))
    offset = min(DODGE * steps[-1], closest / (2 * len(arms)))
    return {arm: (number - (len(arms) - 1) / 2) * offset for number, arm in enumerate(arms)}


def _legend_of_intervals(curve: pd.DataFrame) -> str:
    """Return the meaning of the bands and bars that are drawn."""
    bands = "bands: 95 % over seeds" if curve.seeds_low.notna().any() else "one seed"
    bands += " (over two: 12.7 standard errors to either side)" * bool(curve.n.between(2, LEAST_SEEDS - 1).any())
    bars = "; bars, side by side: 95 % over the samples of one run" if curve.samples_low.notna().any() else ""
    return bands + bars


def _notes(curve: pd.DataFrame, unreliable: Mapping[str, str], width: int) -> list[str]:
    """Return the lines, of at most `width` characters, that say what bands and bars are, and why metrics are
    unreliable."""
    marked = (f"{UNRELIABLE} {METRICS[metric].title} is unreliable: {why}" for metric, why in unreliable.items())
    return [line for note in (_legend_of_intervals(curve), *marked) for line in textwrap.wrap(note, width)]


def _spans_a_decade(curve: pd.DataFrame, lowest: float) -> bool:
    """Return whether the curves span a factor of ten, and what decides the range is positive."""
    return bool(lowest > 0 and curve["mean"].max() > 10 * curve["mean"].min())


def _log_axis(axis: Axes, title: str, ylabel: str) -> None:
    axis.set(title=title, xlabel="training steps", ylabel=ylabel, xlim=(0, None))
    _log_y(axis)
    axis.legend(title=None, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3, frameon=False)


def _log_y(axis: Axes) -> None:
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.minorticks_off()
