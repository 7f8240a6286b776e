"""All tables and figures of one grid on one base."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from diffussm.metric_table import FRECHET, METRICS
from reports.grid import figures, tables
from reports.grid import text as words
from reports.grid.results import GridResults
from reports.paper import published as reported

SHOWN_SAMPLES = 12


def report(results: GridResults, out: Path) -> list[Path]:
    """All tables and figures of one grid on one base, in `out`/<grid>/<base>; returns the files to look at."""
    folder = out / results.grid / results.base
    folder.mkdir(parents=True, exist_ok=True)
    shown = [runs_page(results, folder / "runs"), results_page(results, folder / "results")]
    if results.has_fid:
        shown += [*_curves(results, folder / "fid_over_steps"), *_samples(results, folder / "samples")]
        shown += _samples_over_steps(results, folder / "samples_over_steps")
    return shown + _other_curves(results, folder / "metrics_over_steps")


def runs_page(results: GridResults, stem: Path) -> Path:
    table = tables.run_table(results)
    text = words.runs_markdown(table)
    if measured := words.run_metrics_markdown(results, table):
        assert results.key is not None
        text += (
            f"\nWhere each was measured last ({results.key.setting}). In brackets: "
            f"{words.over_samples(results.measures)}\n\n{measured}"
        )
    return _write(stem, table, text, results.run_ids)


def results_page(results: GridResults, stem: Path) -> Path:
    text = f"# {results.grid} on {results.base}\n\nClaim: {results.claim} ({results.source})\n\n"
    text += f"{words.costs_markdown(results)}\n{_matched(results)}\n"
    if results.measures:
        text += f"\n{words.OVER_SEEDS} {_how_measured(results)}\n{_metrics(results)}"
    if results.has_fid:
        text += _differences(results, stem.with_name("differences"))
    return _write(stem, tables.results_table(results), text, results.run_ids)


def _metrics(results: GridResults) -> str:
    """Every metric over seeds, then over samples."""
    assert results.key is not None
    text = ""
    if metrics := words.metrics_markdown(results):
        extrapolated = f" {words.EXTRAPOLATED}" if set(tables.values(results)) - set(results.measures) else ""
        text += f"\n## All metrics ({results.key.setting})\n\n"
        text += f"Over seeds. ↓: lower is better, ↑: higher.{extrapolated}\n\n{metrics}"
    if over_samples := words.samples_markdown(results):
        what = words.over_samples(results.measures)
        text += f"\n## Over samples\n\nHalf-width, averaged over runs, of the {what}\n\n{over_samples}"
    return text


def _differences(results: GridResults, stem: Path) -> str:
    """Writes them, and says what they show of FID."""
    assert results.key is not None
    gaps = tables.differences(results, "fid")
    gaps.to_csv(stem.with_suffix(".csv"), index=False)
    _write_ids(stem, results.run_ids)
    sentences = "".join(f"- {sentence}\n" for sentence in words.findings(gaps, results.key.name_of("fid")))
    if not sentences:
        return ""
    corrected = "Intervals are over paired seeds and per comparison, not corrected for their number."
    return f"\n## What the intervals say\n\n{sentences}\n{corrected}\n"


def _matched(results: GridResults) -> str:
    """What is equal across arms and what is not, as the numbers have it."""
    costs = tables.costs(results)
    said = []
    for name, values in (("steps", costs.steps), ("parameters", costs.parameters), ("MACs", costs.macs_per_call)):
        if values.isna().any():
            said.append(f"{name} partly unknown")
        elif values.max() == values.min():
            said.append(f"{name} equal")
        else:
            said.append(f"{name} up to {values.max() / values.min():.2f} times apart")
    if results.control:
        said.append(f"training MACs equal to those of {results.control}, whose steps are named for all")
    intent = f" The grid means to match {' and '.join(results.matched)}." if results.matched else ""
    return f"Across arms: {', '.join(said)}.{intent}"


def _how_measured(results: GridResults) -> str:
    key = results.key
    assert key is not None
    named = f"{key.name_of('fid')}:" if results.has_fid else f"Measured with {key.setting}:"
    floors = {METRICS[name].title: results.floor(name) for name in FRECHET}
    said = " and ".join(f"{name} {floor:.2f}" for name, floor in floors.items() if floor is not None)
    return (
        f"{named} {_sampler(results)}, {key.weights} weights, "
        f"against {key.reference_samples} images of {key.reference}"
        + (f"; real images score {said} at this n (noise floor, 20 draws)." if said else ".")
    )


def _curves(results: GridResults, stem: Path) -> list[Path]:
    assert results.key is not None
    name, floor = results.key.name_of("fid"), results.floor("fid")
    curve = tables.curves(results, "fid")
    by_seed = results.done.pivot_table(index=["arm", "at"], columns="seed", values="fid")
    by_seed.columns = [f"seed_{seed}" for seed in by_seed.columns]
    by_seed.index.names = ["arm", "step"]
    table = curve.merge(by_seed.reset_index(), on=["arm", "step"]).merge(
        tables.costs(results).drop(columns="steps"), on="arm"
    )
    text = f"{name}, mean ± half-width of the 95 % interval over seeds\n\n"
    text += words.curve_markdown(results, curve)
    theirs = reported.curves(results.grid)
    if theirs is not None:
        text += f"\nFID-50K as reported by the paper ({reported.WHERE})\n\n{reported.markdown(results.grid)}"
        text += "".join(f"\n- {note}" for note in reported.notes(results.grid)) + "\n"
    title = f"measured ({results.base})"
    drawn = figures.fid_over_steps(curve, _measured_arms(results), name, floor, title, words.step_name(results), theirs)
    figures.save(drawn, stem.with_suffix(".png"))
    if theirs is not None:
        theirs.to_csv(stem.with_name(f"{stem.name}_reported.csv"), index=False)
    return [_write(stem, table.assign(floor=floor), text, results.run_ids), stem.with_suffix(".png")]


def _other_curves(results: GridResults, stem: Path) -> list[Path]:
    """A panel for each metric but FID; nothing where there is none."""
    metrics = [name for name in results.measures if name != "fid"]
    if not metrics:
        return []
    assert results.key is not None
    curve = tables.all_curves(results, metrics)
    names = {name: results.key.name_of(name) for name in metrics}
    drawn = figures.metrics_over_steps(
        curve, _measured_arms(results), names, f"{results.grid} on {results.base}", words.step_name(results)
    )
    figures.save(drawn, stem.with_suffix(".png"))
    curve.to_csv(stem.with_suffix(".csv"), index=False)
    _write_ids(stem, results.run_ids)
    return [stem.with_suffix(".png")]


def _samples(results: GridResults, stem: Path) -> list[Path]:
    """The paper's Figure 5: every arm at its last step, from the same noise and labels."""
    last = results.done[results.done.step == results.done.steps]
    seeds = set.intersection(*(set(group.seed) for _, group in last.groupby("arm"))) if len(last) else set()
    if not seeds:
        return []
    chosen = last[last.seed == min(seeds)]
    title = f"{results.grid} on {results.base}: same noise and labels (columns), seed {min(seeds)}, {_sampler(results)}"
    return _sample_rows(results, chosen, chosen.arm, title, stem)


def _samples_over_steps(results: GridResults, stem: Path) -> list[Path]:
    """One arm along its milestones, from the same noise and labels: the first that was measured."""
    arm = next(arm for arm in results.arms if arm in set(results.done.arm))
    of_arm = results.done[results.done.arm == arm]
    chosen = of_arm[of_arm.seed == of_arm.seed.min()].sort_values("step")
    title = f"{results.grid} on {results.base}: {arm}, seed {chosen.seed.iloc[0]}, along its milestones"
    return _sample_rows(results, chosen, [f"step {step}" for step in chosen.step], title, stem)


def _sample_rows(
    results: GridResults, chosen: pd.DataFrame, names: Iterable[str], title: str, stem: Path
) -> list[Path]:
    """A row of samples for each of the chosen records; PNG, CSV of the pixels, ids."""
    images: dict[str, Any] = {}
    rows, labels = [], np.empty(0, dtype=np.int64)
    for name, record in zip(names, chosen.to_dict("records"), strict=True):
        path = results.folders[record["run_id"]].record(record["step"], record["key"])
        with np.load(path.with_name("samples.npz")) as stored:
            images[name], labels = stored["arr_0"][:SHOWN_SAMPLES], stored["labels"][:SHOWN_SAMPLES]
        flat = images[name].reshape(len(labels), -1)
        rows += [
            {"row": name, "sample": i, "label": label, **{f"pixel_{p}": v for p, v in enumerate(pixels)}}
            for i, (label, pixels) in enumerate(zip(labels, flat, strict=True))
        ]
    figures.save(figures.sample_rows(images, labels if labels.any() else None, title), stem.with_suffix(".png"))
    pd.DataFrame(rows).to_csv(stem.with_suffix(".csv"), index=False)
    _write_ids(stem, list(chosen.run_id))
    return [stem.with_suffix(".png")]


def _measured_arms(results: GridResults) -> list[str]:
    return [arm for arm in results.arms if arm in set(results.done.arm)]


def _sampler(results: GridResults) -> str:
    assert results.key is not None
    fields = {"sampler": results.key.sampler.upper(), "sampler_steps": f"{results.key.sampler_steps} steps"}
    shown = [text for field, text in fields.items() if field not in results.varied]
    if "guidance" not in results.varied:
        shown.append(f"guidance {results.key.guidance:g}")
    return ", ".join([*shown, *(f"{field} as the arm says" for field in sorted(results.varied))])


def _write(stem: Path, table: pd.DataFrame, text: str, run_ids: list[str]) -> Path:
    """The table as CSV and Markdown, with the ids of the runs behind it; returns the Markdown's path."""
    table.to_csv(stem.with_suffix(".csv"), index=False)
    stem.with_suffix(".md").write_text(text)
    _write_ids(stem, run_ids)
    return stem.with_suffix(".md")


def _write_ids(stem: Path, run_ids: list[str]) -> None:
    stem.with_suffix(".runs.json").write_text(json.dumps(sorted(set(run_ids)), indent=1) + "\n")
