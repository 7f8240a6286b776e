"""Tables of numbers of a grid, as in its CSV files; `text` formats them.

There are two kinds of intervals: `seeds` is Student's t over runs that differ in their seed, and `samples` is over the
samples of one run, from its record.
"""

import itertools
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from diffussm.metric_table import SUFFIXES
from reports.grid.results import GridResults
from reports.grid.stats import LEAST_SEEDS, Interval, paired_difference, t_interval

SECONDS = "seconds_per_step"
CURVE = ["arm", "step", "mean", "seeds_low", "seeds_high", "n", "samples_low", "samples_high"]


def curves(results: GridResults, metric: str) -> pd.DataFrame:
    """Return a row per (arm, step), where step is `compared_step` of the results: the mean over seeds with its interval
    and n. The ends of the interval over samples are the mean plus the offsets of the ends in the runs, averaged over
    runs."""
    rows = []
    for (arm, step), group in results.done.dropna(subset=[metric]).groupby(["arm", "compared_step"], sort=False):
        mean, low, high, n = t_interval(group[metric])
        below, above = (float(offset.mean()) for offset in _sample_offsets(group, metric))
        rows.append((arm, step, mean, low, high, n, mean + below, mean + above))
    return pd.DataFrame(rows, columns=CURVE).sort_values(["arm", "step"], key=_arm_order(results), ignore_index=True)


def all_curves(results: GridResults, metrics: Iterable[str]) -> pd.DataFrame:
    """Return the curves of several metrics in one table, with the column `metric`."""
    named = [curves(results, name).assign(metric=name) for name in metrics]
    return pd.concat(named, ignore_index=True)[["metric", *CURVE]]


def results_table(results: GridResults) -> pd.DataFrame:
    """Return a row per arm at its last step: the number of runs, its cost, metrics and seconds per step with
    intervals."""
    rows = []
    for arm, group in results.table.groupby("arm", sort=False):
        last = group[group.step == group.steps]
        row = {
            "arm": arm,
            "step": int(group.steps.max()),
            "runs": _count_states(last),
            "n": int((last.state == "done").sum()),
            "parameters": group.parameters.iloc[0],
            "macs_per_call": group.macs_per_call.iloc[0],
        }
        for column in [*values(results), *seconds(results)]:
            interval = over_seeds(last, column)
            row |= {column: interval.mean, f"{column}_seeds_low": interval.low, f"{column}_seeds_high": interval.high}
            if results.holds(f"{column}_samples_low"):
                row[f"{column}_samples_half_width"] = half_width_over_samples(last, column)
        rows.append(row)
    return pd.DataFrame(rows)


def values(results: GridResults) -> dict[str, str]:
    """Return the columns with values in the records, and the metric of each: every metric, followed by its
    extrapolation."""
    both = {name + suffix: name for name in results.measures for suffix in ("", "_infinity")}
    return {column: name for column, name in both.items() if results.holds(column)}


def seconds(results: GridResults) -> list[str]:
    return [SECONDS] if results.holds(SECONDS) else []


def over_seeds(runs: pd.DataFrame, column: str) -> Interval:
    return t_interval(runs[column].dropna())


def has_two_seeds(results: GridResults) -> bool:
    """Return whether an interval is over fewer seeds than intervals need, at any step of any arm."""
    counts = results.done.groupby(["arm", "compared_step"]).seed.nunique()
    return bool(counts.between(2, LEAST_SEEDS - 1).any())


def half_width_over_samples(runs: pd.DataFrame, metric: str) -> float:
    """Return the half-width of the interval over samples, averaged over runs; NaN if no run has one."""
    low, high = _sample_offsets(runs, metric)
    return float(((high - low) / 2).mean())


def _sample_offsets(runs: pd.DataFrame, metric: str) -> list["pd.Series[float]"]:
    """Return the offsets of the low and high ends of the interval over samples from each value; NaN if there is
    none."""
    none = pd.Series(np.nan, index=runs.index)
    return [runs.get(f"{metric}_samples_{end}", none) - runs[metric] for end in ("low", "high")]


def run_table(results: GridResults) -> pd.DataFrame:
    """Return a row per run, whether done or not: its state, its cost, and its metrics at the last evaluated
    milestone."""
    names = [name for metric in results.measures for name in (metric, *(f"{metric}_{end}" for end in SUFFIXES))]
    rows = []
    for (arm, seed), group in results.table.groupby(["arm", "seed"], sort=False):
        worst = group[group.state != "done"]
        measured = group[group.state == "done"].sort_values("step")
        rows.append(
            {
                "arm": arm,
                "seed": seed,
                "run_id": group.run_id.iloc[0],
                "state": "done" if worst.empty else worst.state.iloc[0],
                "reason": "" if worst.empty else worst.reason.iloc[0],
                "last_measured_step": None if measured.empty else int(measured.step.iloc[-1]),
                "asked_steps": int(group.steps.iloc[0]),
                "parameters": group.parameters.iloc[0],
                "macs_per_call": group.macs_per_call.iloc[0],
                **{n: np.nan if measured.empty else measured[n].iloc[-1] for n in names if results.holds(n)},
            }
        )
    return pd.DataFrame(rows).astype({"last_measured_step": "Int64"})


def differences(results: GridResults, metric: str) -> pd.DataFrame:
    """Return a row per step and pair of arms that differ in one axis: the mean of their difference over shared seeds,
    its 95 % interval, and whether that excludes 0."""
    rows = []
    for step, at_step in results.done.groupby("compared_step"):
        by_seed = at_step.pivot_table(index="seed", columns="arm", values=metric)
        for a, b in itertools.combinations([arm for arm in results.arms if arm in by_seed], 2):
            if not _differ_in_one_axis(results.levels[a], results.levels[b]):
                continue
            shared = by_seed[[a, b]].dropna()
            interval = paired_difference(shared[a], shared[b])
            separates = interval.n > 1 and not interval.low <= 0 <= interval.high
            rows.append({"step": step, "arm": a, "other": b, **interval._asdict(), "separates": separates})
    columns = ["step", "arm", "other", *Interval._fields, "separates"]
    cost = costs(results).drop(columns="steps")
    table = pd.DataFrame(rows, columns=columns).merge(cost, on="arm")
    return table.merge(cost.rename(columns={"arm": "other"}), on="other", suffixes=("", "_of_other"))


def _differ_in_one_axis(a: Mapping[str, str], b: Mapping[str, str]) -> bool:
    """Return whether two arms differ in the level of exactly one shared axis. An explicit arm is compared with every
    other arm."""
    shared = a.keys() & b.keys()
    return not shared or sum(a[axis] != b[axis] for axis in shared) == 1


def costs(results: GridResults) -> pd.DataFrame:
    """Return a row per arm: arm, steps, parameters, macs_per_call (missing where an external mixer does not define
    it)."""
    columns = ["arm", "steps", "parameters", "macs_per_call"]
    return results.table[columns].drop_duplicates("arm").reset_index(drop=True)


def _count_states(last: pd.DataFrame) -> str:
    counts = last.state.value_counts()
    return ", ".join(
        f"{counts[state]} {state}"
        for state in ("done", "missing", "failed", "diverged", "cancelled")
        if state in counts
    )


def _arm_order(results: GridResults):  # type: ignore[no-untyped-def]
    position = {arm: i for i, arm in enumerate(results.arms)}
    return lambda column: column.map(position) if column.name == "arm" else column
