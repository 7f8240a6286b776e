"""Where attention falls behind S4D: the lengths, and the sentences."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from reports.bench.crossover import crossover

ATTENTION, S4D = "attention", "S4D"
TIME, MEMORY = "time", "memory"
BEHIND = {TIME: "slower", MEMORY: "larger"}


class Crossing(NamedTuple):
    """`length` is None where there is no crossing among the lengths measured; `low` and `high` come of the ends of the
    intervals, None where they lead beyond those lengths."""

    setting: str
    quantity: str
    length: float | None
    low: float | None
    high: float | None
    says: str


def crossings(points: pd.DataFrame) -> pd.DataFrame:
    """For each setting, where attention becomes slower, and where larger, than S4D by its fastest backend.

    points: as `lengths.per_token`.
    """
    found = [
        one
        for setting, of_setting in points.groupby("setting", sort=False)
        for one in (_in_time(str(setting), *_rivals(of_setting)), _in_memory(str(setting), *_rivals(of_setting)))
    ]
    return pd.DataFrame(found, columns=list(Crossing._fields)).astype({"length": float, "low": float, "high": float})


def _in_time(setting: str, best: pd.DataFrame, attention: pd.DataFrame) -> Crossing:
    length = crossover(best.index, attention.ns_per_token, best.ns_per_token)
    low = crossover(best.index, attention.ns_high, best.ns_low)
    high = crossover(best.index, attention.ns_low, best.ns_high)
    says = _says(setting, TIME, best.ns_per_token, attention.ns_per_token, length)
    if length is not None:
        says += f" (by the ends of the intervals {_range(best.index, low, high)})"
    return Crossing(setting, TIME, length, low, high, f"{says}.")


def _in_memory(setting: str, best: pd.DataFrame, attention: pd.DataFrame) -> Crossing:
    measured = (best.bytes_per_token > 0) & (attention.bytes_per_token > 0)
    ours, theirs = best[measured].bytes_per_token, attention[measured].bytes_per_token
    length = crossover(ours.index, theirs, ours)
    return Crossing(setting, MEMORY, length, None, None, f"{_says(setting, MEMORY, ours, theirs, length)}.")


def _rivals(points: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """S4D by its fastest backend at each length, and attention, at the lengths that both have."""
    backends = points[points.subject.str.startswith(S4D)].sort_values("ns_per_token")
    best = backends.drop_duplicates("length").set_index("length")
    attention = points[points.subject == ATTENTION].set_index("length")
    both = best.index.intersection(attention.index).sort_values()
    return best.loc[both], attention.loc[both]


def _says(setting: str, quantity: str, best: pd.Series, attention: pd.Series, length: float | None) -> str:
    about = f"{setting}, {quantity}: attention"
    if best.empty:
        return f"{about} and S4D were not both measured"
    if length is not None:
        return f"{about} becomes {BEHIND[quantity]} than S4D at L = {length:,.0f}"
    behind = best.index[np.asarray(attention > best)]
    among = f"measured for both, {best.index[0]:,} to {best.index[-1]:,}"
    if len(best) == 1:
        is_behind = "" if len(behind) else "not "
        return f"{about} is {is_behind}{BEHIND[quantity]} than S4D at the only L measured for both, {best.index[0]:,}"
    if len(behind) in (0, len(best)):
        where = "every" if len(behind) else "no"
        return f"{about} is {BEHIND[quantity]} than S4D at {where} L {among}; no crossing among them"
    at = ", ".join(f"{one:,}" for one in behind)
    return f"{about} is {BEHIND[quantity]} than S4D at L = {at}, but not at the longest {among}; no crossing"


def _range(lengths: pd.Index, low: float | None, high: float | None) -> str:
    lowest = f"below {lengths[0]:,}" if low is None else f"{low:,.0f}"
    return f"{lowest} to {f'beyond {lengths[-1]:,}' if high is None else f'{high:,.0f}'}"
