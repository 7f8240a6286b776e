"""The range of an axis: values, and intervals that mean something, decide it; those that span everything do not."""

import math
from typing import Literal, NamedTuple

import pandas as pd
from matplotlib.axes import Axes

from reports.grid.stats import LEAST_SEEDS

MARGIN = 0.25  # of the range, on either side, that intervals which do not decide it may reach
LEAST_MARGIN = 0.05  # of the range, beyond the values that are possible
LOWEST_OF_LOG = 4  # a logarithmic axis reaches this factor below the lowest value, whatever the intervals
CUT = "longer intervals are cut"


class Range(NamedTuple):
    low: float
    high: float


ANY = Range(-math.inf, math.inf)


def decisive_range(curve: pd.DataFrame, is_unreliable: bool) -> Range:
    """Return the range of the values and of their intervals, without those over two seeds and, of a metric that is
    unreliable at its n, without any."""
    parts = [curve["mean"]]
    if not is_unreliable:
        enough = curve[curve.n >= LEAST_SEEDS]
        parts += [curve.samples_low, curve.samples_high, enough.seeds_low, enough.seeds_high]
    every = pd.concat(parts).dropna()
    return Range(float(every.min()), float(every.max()))


def clip(
    axis: Axes,
    curve: pd.DataFrame,
    decisive: Range,
    note_at: Literal["top", "bottom"] = "top",
    possible: Range = ANY,
) -> None:
    """Cut the axis, linear or logarithmic, where `possible` parts of intervals reach further beyond the decisive range
    than its margin, and say so at its top or bottom."""
    ends = curve[["mean", "seeds_low", "seeds_high", "samples_low", "samples_high"]].clip(*possible)
    lowest, highest = float(ends.min().min()), float(ends.max().max())
    if axis.get_yscale() == "log":
        low = max(decisive.low, float(curve["mean"].min()) / LOWEST_OF_LOG)
        factor = (decisive.high / low) ** MARGIN if decisive.high > low else 1 + MARGIN
        limits = Range(low / factor, decisive.high * factor)
    else:
        span = decisive.high - decisive.low or abs(decisive.high) or 1.0
        limits = Range(
            max(decisive.low - MARGIN * span, possible.low - LEAST_MARGIN * span),
            min(decisive.high + MARGIN * span, possible.high + LEAST_MARGIN * span),
        )
    if lowest < limits.low or highest > limits.high:
        axis.set_ylim(limits)
        y = {"top": 0.98, "bottom": 0.02}[note_at]
        axis.text(0.98, y, CUT, transform=axis.transAxes, ha="right", va=note_at, fontsize=6, color="0.35")
