"""The tables of a grid as text: Markdown and sentences about the numbers of `tables`."""

import math
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

import pandas as pd

from diffussm.metric import UNRELIABLE
from diffussm.metric_table import METRICS
from diffussm.tables import plural
from reports import markdown as md
from reports.grid import tables
from reports.grid.results import GridResults
from reports.grid.stats import LEAST_SEEDS, Interval

OVER_SEEDS = "± is the half-width of the 95 % Student-t interval over seeds, which are separate trainings."
TWO_SEEDS = "‡"  # beside an interval
OVER_TWO_SEEDS = (
    "Of two seeds, Student's t has one degree of freedom: the interval reaches 12.7 standard errors to either side "
    "(three seeds: 4.3) and says little."
)
EXTRAPOLATED = "n = ∞: extrapolated (Chong and Forsyth 2020)."


def over_samples(metrics: Collection[str]) -> str:
    """Return a description of the interval over samples, with the method for each of the metrics."""
    titles: dict[str, list[str]] = {}
    for metric in (METRICS[name] for name in metrics):
        if metric.interval:
            titles.setdefault(metric.interval, []).append(metric.title)
    methods = "; ".join(f"{', '.join(names)} by {method}" for method, names in titles.items())
    return (
        f"95 % interval over the samples of one run ({methods}): the variation between sets of samples from the same "
        "weights. It differs from ±, the interval over seeds."
    )


def unverifiable(results: GridResults) -> str:
    """Return a sentence on records whose content cannot be verified; "" if there are none."""
    if not results.unverifiable:
        return ""
    count = f"{results.unverifiable} of {plural(len(results.found), 'record')}"
    return f"{count} cannot be verified: an earlier version wrote them, without a digest.\n\n"


def of_other_data(results: GridResults) -> str:
    """Return a sentence on records whose reference or extractor was made of other data than the run was trained on; ""
    if there are none."""
    found = results.found.values()
    counts = {part: sum(part in record.of_other_data for record in found) for part in ("reference", "extractor")}
    made = {
        "reference": "measured against a reference that was built from",
        "extractor": "measured with an extractor that was trained on",
    }
    parts = [
        f"{count} of {plural(len(found), 'record')} {'was' if count == 1 else 'were'} {made[part]} other data than the "
        "runs were trained on."
        for part, count in counts.items()
        if count
    ]
    return f"**Warning:** {' '.join(parts)}\n\n" if parts else ""


def baked_in(results: GridResults) -> str:
    """Return a sentence on records of runs on latents of which something is the same in each epoch; "" if there are
    none."""
    found = results.found.values()
    counts = Counter(record.data_baked for record in found if record.data_baked)
    parts = [
        f"Baked into the latents behind {count} of {plural(len(found), 'record')}, the same in each epoch of training: "
        f"{', '.join(baked)}."
        for baked, count in counts.items()
    ]
    return f"{' '.join(parts)}\n\n" if parts else ""


def step_name(results: GridResults) -> str:
    """Return the label of the x axis of a curve."""
    return f"steps of {results.control} (equal training MACs)" if results.control else "step"


def title(results: GridResults, column: str, metric: str) -> str:
    """Return the heading of a column: the metric, whether it is extrapolated, the direction that is better, and whether
    it is unreliable at this n."""
    m = METRICS[metric]
    extrapolated = "" if column == metric else " at n = ∞"
    mark = f" {UNRELIABLE}" * (metric in results.unreliable)
    return f"{m.title}{extrapolated} {'↓' if m.better == 'lower' else '↑'}{mark}"


def reliability_markdown(results: GridResults) -> str:
    """Return the footnotes of what is marked, as a list: metrics that are unreliable at this n, and intervals over two
    seeds; empty if nothing is marked."""
    notes = [f"{UNRELIABLE} {METRICS[name].title} is unreliable: {why}." for name, why in results.unreliable.items()]
    notes += [f"{TWO_SEEDS} {OVER_TWO_SEEDS}"] * tables.has_two_seeds(results)
    return f"\n{md.bullets(notes)}" if notes else ""


def costs_markdown(results: GridResults) -> str:
    """Return a table with a row per arm: runs, costs, FID, seconds per step."""
    rows = []
    table = tables.results_table(results)
    for row, last in zip(table.to_dict("records"), _last_of_arms(results), strict=True):
        shown = {
            "arm": row["arm"],
            "runs": row["runs"],
            "parameters": f"{row['parameters']:,}",
            "MACs per image and call": _macs(row["macs_per_call"]),
        }
        if results.has_fid:
            shown[results.label("fid")] = _mean(last, "fid", METRICS["fid"].digits)
        for column in tables.seconds(results):
            shown["seconds per step"] = _mean(last, column, 4)
        rows.append(shown)
    return md.table(pd.DataFrame(rows))


def metrics_markdown(results: GridResults) -> str:
    """Return a table with a row per arm and a column per metric, with intervals over seeds; empty if FID is the only
    metric."""
    columns = tables.values(results)
    if list(columns) in ([], ["fid"]):
        return ""
    rows = [
        {title(results, column, name): _mean(last, column, METRICS[name].digits) for column, name in columns.items()}
        for last in _last_of_arms(results)
    ]
    return md.table(_named(results, rows))


def samples_markdown(results: GridResults) -> str:
    """Return a table with a row per arm and a column per metric: the half-width over samples, averaged over runs; empty
    if there is none."""
    columns = [name for name in results.measures if results.holds(f"{name}_samples_low")]
    rows = [
        {title(results, name, name): _half_width(tables.half_width_over_samples(last, name), name) for name in columns}
        for last in _last_of_arms(results)
    ]
    return md.table(_named(results, rows)) if columns else ""


def runs_markdown(runs: pd.DataFrame) -> str:
    """Return a table with a row per run: its state and its cost."""
    return md.table(runs.loc[:, :"macs_per_call"])


def run_metrics_markdown(results: GridResults, runs: pd.DataFrame) -> str:
    """Return a table with a row per run: its metrics at the last evaluated milestone, with intervals over samples;
    empty if there are none."""
    columns = tables.values(results)
    rows = [
        {
            "arm": run["arm"],
            "seed": run["seed"],
            "step": run["last_measured_step"],
            **{
                title(results, column, name): _value(run, column, METRICS[name].digits)
                for column, name in columns.items()
            },
        }
        for run in runs[runs.last_measured_step.notna()].to_dict("records")
    ]
    return md.table(pd.DataFrame(rows)) if rows else ""


def curve_markdown(results: GridResults, curve: pd.DataFrame) -> str:
    """Return a table with a row per step and a column per arm: mean and half-width of the interval over seeds, below
    the costs of each arm."""
    columns = zip(curve["mean"], curve.seeds_low, curve.seeds_high, curve.n, strict=True)
    shown = curve.assign(shown=[_interval(Interval(*values), 2) for values in columns])
    arms = [arm for arm in results.arms if arm in set(curve.arm)]
    wide = shown.pivot(index="step", columns="arm", values="shown")[arms].fillna("missing")
    cost = tables.costs(results).set_index("arm")
    wide.loc["parameters"] = [f"{cost.parameters[arm]:,}" for arm in arms]
    wide.loc["MACs per image and call"] = [_macs(cost.macs_per_call[arm]) for arm in arms]
    return md.table(wide.iloc[[-2, -1, *range(len(wide) - 2)]].reset_index())


def findings(table: pd.DataFrame, name: str) -> list[str]:
    """Return a sentence about the interval of the difference of each pair of arms."""
    sentences = []
    for (arm, other), pair in table.groupby(["arm", "other"], sort=False):
        *earlier, last = pair.sort_values("step").to_dict("records")
        separated = [row for row in earlier if row["separates"]]
        history = f" Before that: {'; '.join(_describe_difference(row) for row in separated)}." if separated else ""
        if last["n"] < 2:
            sentences.append(
                f"{arm} and {other}: {last['n']} shared seed at step {last['step']}, too few for a conclusion."
            )
            continue
        interval = (
            f"difference {last['mean']:.2f}, 95 % interval {last['low']:.2f} to {last['high']:.2f} "
            f"over {last['n']} paired seeds"
        )
        if last["separates"]:
            lower, higher = (arm, other) if last["mean"] < 0 else (other, arm)
            sentences.append(f"At step {last['step']} {lower} has a lower {name} than {higher} ({interval}).{history}")
        else:
            result = f"the difference between {arm} and {other} is within the variation over seeds"
            sentences.append(f"At step {last['step']} {result} ({interval}).{history}")
    return sentences


def _last_of_arms(results: GridResults) -> list[pd.DataFrame]:
    """Return the rows of each arm at its last step, in the order of the arms in the table."""
    return [group[group.step == group.steps] for _, group in results.table.groupby("arm", sort=False)]


def _named(results: GridResults, rows: list[dict[str, str]]) -> pd.DataFrame:
    return pd.DataFrame([{"arm": arm, **row} for arm, row in zip(results.table.arm.unique(), rows, strict=True)])


def _mean(runs: pd.DataFrame, column: str, digits: int) -> str:
    return _interval(tables.over_seeds(runs, column), digits)


def _interval(interval: Interval, digits: int) -> str:
    if interval.n == 0 or math.isnan(interval.mean):
        return "missing"
    if interval.n == 1:
        return f"{interval.mean:.{digits}f} (one seed)"
    mark = f" {TWO_SEEDS}" * (interval.n < LEAST_SEEDS)
    return f"{interval.mean:.{digits}f} ± {interval.half_width:.{digits}f}{mark}"


def _half_width(half: float, metric: str) -> str:
    return "missing" if math.isnan(half) else f"{half:.{METRICS[metric].digits}f}"


def _value(run: Mapping[Any, Any], column: str, digits: int) -> str:
    """Return the value of a run, with its interval over samples in brackets."""
    value, low, high = (run.get(f"{column}{end}", math.nan) for end in ("", "_samples_low", "_samples_high"))
    if math.isnan(value):
        return "missing"
    return f"{value:.{digits}f}" + ("" if math.isnan(low) else f" ({low:.{digits}f} to {high:.{digits}f})")


def _macs(macs: Any) -> str:
    return "unknown" if pd.isna(macs) else f"{macs / 1e6:.2f} M"


def _describe_difference(row: Mapping[Any, Any]) -> str:
    lower = row["arm"] if row["mean"] < 0 else row["other"]
    return f"{lower} lower by {abs(row['mean']):.2f} at step {row['step']}"
