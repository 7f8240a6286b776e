"""From a grid's rows to the tables that are shown: numbers as CSV, the same in words as Markdown."""

import itertools
import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from reports import markdown as md
from reports.runs import GridResults
from reports.stats import Interval, paired_difference, t_interval


def curves(results: GridResults, metric: str) -> pd.DataFrame:
    """One row per (arm, step), step as `at` of the rows: mean over seeds, 95 % Student-t interval, n."""
    rows = []
    for (arm, step), group in results.done.groupby(["arm", "at"], sort=False):
        rows.append({"arm": arm, "step": step, **t_interval(group[metric])._asdict()})
    return pd.DataFrame(rows).sort_values(["arm", "step"], key=_arm_order(results)).reset_index(drop=True)


def results_table(results: GridResults) -> pd.DataFrame:
    """One row per arm at its last step: cost, seconds per step, metrics with intervals, and how many runs it has."""
    rows = []
    for arm, group in results.table.groupby("arm", sort=False):
        last = group[group.step == group.steps]
        done = last[last.state == "done"]
        row = {
            "arm": arm,
            "step": int(group.steps.max()),
            "runs": _count_states(last),
            "n": len(done),
            "parameters": group.parameters.iloc[0],
            "macs_per_call": group.macs_per_call.iloc[0],
        }
        for metric in ("fid", "label_accuracy", "seconds_per_step"):
            if metric in done:
                interval = t_interval(done[metric])
                row |= {metric: interval.mean, f"{metric}_low": interval.low, f"{metric}_high": interval.high}
        rows.append(row)
    return pd.DataFrame(rows)


def run_table(results: GridResults) -> pd.DataFrame:
    """One row per run, whatever became of it: its state, and where it was measured last."""
    rows = []
    for (arm, seed), group in results.table.groupby(["arm", "seed"], sort=False):
        worst = group[group.state != "done"]
        measured = group[group.state == "done"]
        rows.append(
            {
                "arm": arm,
                "seed": seed,
                "run_id": group.run_id.iloc[0],
                "state": "done" if worst.empty else worst.state.iloc[0],
                "reason": "" if worst.empty else worst.reason.iloc[0],
                "last_measured_step": None if measured.empty else int(measured.step.max()),
                "asked_steps": int(group.steps.iloc[0]),
                "parameters": group.parameters.iloc[0],
                "macs_per_call": group.macs_per_call.iloc[0],
            }
        )
    return pd.DataFrame(rows).astype({"last_measured_step": "Int64"})


def differences(results: GridResults, metric: str) -> pd.DataFrame:
    """Paired differences of every two arms that differ in one axis, at every step: mean over shared seeds, 95 %
    interval, does it exclude 0."""
    rows = []
    for step, at_step in results.done.groupby("at"):
        by_seed = at_step.pivot_table(index="seed", columns="arm", values=metric)
        for a, b in itertools.combinations([arm for arm in results.arms if arm in by_seed], 2):
            if not _one_axis_apart(results.levels[a], results.levels[b]):
                continue
            shared = by_seed[[a, b]].dropna()
            interval = paired_difference(shared[a], shared[b])
            separates = interval.n > 1 and not interval.low <= 0 <= interval.high
            rows.append({"step": step, "arm": a, "other": b, **interval._asdict(), "separates": separates})
    columns = ["step", "arm", "other", *Interval._fields, "separates"]
    cost = costs(results).drop(columns="steps")
    table = pd.DataFrame(rows, columns=columns).merge(cost, on="arm")
    return table.merge(cost.rename(columns={"arm": "other"}), on="other", suffixes=("", "_of_other"))


def _one_axis_apart(a: Mapping[str, str], b: Mapping[str, str]) -> bool:
    """Whether two arms differ in the level of one of the axes that both have; a named arm is compared with all."""
    shared = a.keys() & b.keys()
    return not shared or sum(a[axis] != b[axis] for axis in shared) == 1


def costs(results: GridResults) -> pd.DataFrame:
    """arm, steps, parameters, macs_per_call (missing where a mixer from outside states none)."""
    columns = ["arm", "steps", "parameters", "macs_per_call"]
    return results.table[columns].drop_duplicates("arm").reset_index(drop=True)


def _macs(macs: Any) -> str:
    return "unknown" if pd.isna(macs) else f"{macs / 1e6:.2f} M"


def step_name(results: GridResults) -> str:
    """What is counted along a curve."""
    return f"steps of {results.control} (equal training MACs)" if results.control else "step"


def findings(table: pd.DataFrame, name: str) -> list[str]:
    """What the intervals of `differences` say of every two arms, a sentence each."""
    sentences = []
    for (arm, other), pair in table.groupby(["arm", "other"], sort=False):
        *earlier, last = pair.sort_values("step").to_dict("records")
        apart = [row for row in earlier if row["separates"]]
        history = f" Before that: {'; '.join(_lower(row) for row in apart)}." if apart else ""
        if last["n"] < 2:
            sentences.append(f"{arm} and {other}: {last['n']} shared seed at step {last['step']}, so no conclusion.")
            continue
        interval = (
            f"difference {last['mean']:.2f}, 95 % interval {last['low']:.2f} to {last['high']:.2f} "
            f"over {last['n']} paired seeds"
        )
        if last["separates"]:
            lower, higher = (arm, other) if last["mean"] < 0 else (other, arm)
            sentences.append(f"At step {last['step']} {lower} has a lower {name} than {higher} ({interval}).{history}")
        else:
            apart_or_not = f"{arm} and {other} do not separate beyond the seeds' spread"
            sentences.append(f"At step {last['step']} {apart_or_not} ({interval}).{history}")
    return sentences


def _lower(row: Mapping[Any, Any]) -> str:
    lower = row["arm"] if row["mean"] < 0 else row["other"]
    return f"{lower} lower by {abs(row['mean']):.2f} at step {row['step']}"


def curve_markdown(results: GridResults, curve: pd.DataFrame) -> str:
    """Steps down, arms across, mean and half-width of the interval; first what each arm costs."""
    columns = zip(curve["mean"], curve["low"], curve["high"], curve["n"], strict=True)
    shown = curve.assign(shown=[_interval(Interval(*values), 2) for values in columns])
    arms = [arm for arm in results.arms if arm in set(curve.arm)]
    wide = shown.pivot(index="step", columns="arm", values="shown")[arms].fillna("missing")
    cost = costs(results).set_index("arm")
    wide.loc["parameters"] = [f"{cost.parameters[arm]:,}" for arm in arms]
    wide.loc["MACs per image and call"] = [_macs(cost.macs_per_call[arm]) for arm in arms]
    return md.table(wide.iloc[[-2, -1, *range(len(wide) - 2)]].reset_index())


def results_markdown(results: GridResults, table: pd.DataFrame) -> str:
    rows = []
    for r in table.to_dict("records"):
        row = {
            "arm": r["arm"],
            "runs": r["runs"],
            "parameters": f"{r['parameters']:,}",
            "MACs per image and call": _macs(r["macs_per_call"]),
        }
        for metric, title, digits in (
            ("fid", results.key.fid_name if results.key else "FID", 2),
            ("label_accuracy", "label accuracy", 3),
            ("seconds_per_step", "seconds per step", 4),
        ):
            if metric in table:
                interval = Interval(r[metric], r[f"{metric}_low"], r[f"{metric}_high"], r["n"])
                row[title] = _interval(interval, digits)
        rows.append(row)
    return md.table(pd.DataFrame(rows))


def _interval(interval: Interval, digits: int) -> str:
    if interval.n == 0 or math.isnan(interval.mean):
        return "missing"
    if interval.n == 1:
        return f"{interval.mean:.{digits}f} (one seed)"
    return f"{interval.mean:.{digits}f} ± {interval.half_width:.{digits}f}"


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
