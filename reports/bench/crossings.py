"""The lengths from which attention takes more than S4D, and sentences about them."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from reports.bench.crossover import crossover

ATTENTION, S4D = "attention", "S4D"
TIME, MEMORY = "time", "memory"
COMPARATIVE = {TIME: "slower", MEMORY: "larger"}


class Crossing(NamedTuple):
    """A length from which attention takes more than S4D; None if there is no crossing within the measured lengths.

    `low` and `high` are the crossings of the ends of the intervals; None if those lie beyond the measured lengths.
    `says` is a sentence.
    """

    setting: str
    quantity: str
    length: float | None
    low: float | None
    high: float | None
    says: str


def crossings(points: pd.DataFrame) -> pd.DataFrame:
    """Return the crossings in time and in memory of each setting, where S4D is represented by its fastest backend.

    points: as returned by `lengths.per_token`.
    """
    found = [
        crossing
        for setting, group in points.groupby("setting", sort=False)
        for crossing in (_in_time(str(setting), *_curves(group)), _in_memory(str(setting), *_curves(group)))
    ]
    return pd.DataFrame(found, columns=list(Crossing._fields)).astype({"length": float, "low": float, "high": float})


def _in_time(setting: str, best: pd.DataFrame, attention: pd.DataFrame) -> Crossing:
    length = crossover(best.index, attention.ns_per_token, best.ns_per_token)
    low = crossover(best.index, attention.ns_high, best.ns_low)
    high = crossover(best.index, attention.ns_low, best.ns_high)
    sentence = _sentence(setting, TIME, best.ns_per_token, attention.ns_per_token, length)
    if length is not None:
        sentence += f" (by the ends of the intervals {_range(best.index, low, high)})"
    return Crossing(setting, TIME, length, low, high, f"{sentence}.")


def _in_memory(setting: str, best: pd.DataFrame, attention: pd.DataFrame) -> Crossing:
    measured = (best.bytes_per_token > 0) & (attention.bytes_per_token > 0)
    ours, theirs = best[measured].bytes_per_token, attention[measured].bytes_per_token
    length = crossover(ours.index, theirs, ours)
    return Crossing(setting, MEMORY, length, None, None, f"{_sentence(setting, MEMORY, ours, theirs, length)}.")


def _curves(points: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """S4D by its fastest backend at each length, and attention, at the lengths measured for both."""
    backends = points[points.subject.str.startswith(S4D)].sort_values("ns_per_token")
    best = backends.drop_duplicates("length").set_index("length")
    attention = points[points.subject == ATTENTION].set_index("length")
    both = best.index.intersection(attention.index).sort_values()
    return best.loc[both], attention.loc[both]


def _sentence(setting: str, quantity: str, best: pd.Series, attention: pd.Series, length: float | None) -> str:
    subject = f"{setting}, {quantity}: attention"
    if best.empty:
        return f"{subject} and S4D were not both measured"
    if length is not None:
        return f"{subject} becomes {COMPARATIVE[quantity]} than S4D at L = {length:,.0f}"
    larger = best.index[np.asarray(attention > best)]
    among = f"measured for both, {best.index[0]:,} to {best.index[-1]:,}"
    if len(best) == 1:
        verb = "is" if len(larger) else "is not"
        return f"{subject} {verb} {COMPARATIVE[quantity]} than S4D at the only L measured for both, {best.index[0]:,}"
    if len(larger) in (0, len(best)):
        where = "every" if len(larger) else "no"
        return f"{subject} is {COMPARATIVE[quantity]} than S4D at {where} L {among}; no crossing among them"
    at = ", ".join(f"{one:,}" for one in larger)
    return f"{subject} is {COMPARATIVE[quantity]} than S4D at L = {at}, but not at the longest {among}; no crossing"


def _range(lengths: pd.Index, low: float | None, high: float | None) -> str:
    lowest = f"below {lengths[0]:,}" if low is None else f"{low:,.0f}"
    return f"{lowest} to {f'beyond {lengths[-1]:,}' if high is None else f'{high:,.0f}'}"
