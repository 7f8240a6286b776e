"""The report on one grid on one base: all its tables and figures."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from diffussm.metric_table import FRECHET, METRICS
from diffussm.store.names import child
from diffussm.store.records import EvaluationKey
from reports import markdown as md
from reports import style
from reports.grid import figures, tables, text
from reports.grid.results import GridResults
from reports.grid.sample_rows import sample_rows
from reports.paper import published

SHOWN_SAMPLES = 12
MOST_VALUES = 3 * 64 * 64  # of an image whose pixels stand in a table
CLASS_NAMES = "class_names"  # array beside the samples
RECIPE_NOT_STATED = (
    "The launch, by a version of before, did not record the digests of its base and data: that the runs are of one "
    "recipe is known only as far as their configs and evaluation keys tell."
)


def report(results: GridResults, out: Path) -> list[Path]:
    """Write all tables and figures to `out`/<grid>/<base>; returns the files to look at."""
    folder = child(out, results.grid, results.base)
    shown = [runs_page(results, folder / "runs"), results_page(results, folder / "results")]
    if results.has_fid:
        shown += [*_curves(results, folder / "fid_over_steps"), *_samples(results, folder / "samples")]
        shown += _samples_over_steps(results, folder / "samples_over_steps")
    return shown + _other_curves(results, folder / "metrics_over_steps")


def runs_page(results: GridResults, stem: Path) -> Path:
    """Write runs.md and .csv: a row for each run."""
    table = tables.run_table(results)
    page = text.runs_markdown(table)
    if measured := text.run_metrics_markdown(results, table):
        assert results.key is not None
        page += (
            f"\nEach run at its last evaluated milestone ({results.key.extractor_and_n}). In brackets: "
            f"{text.over_samples(results.measures)}\n\n{measured}{text.reliability_markdown(results)}"
        )
    return _write(stem, table, page, results.run_ids)


def results_page(results: GridResults, stem: Path) -> Path:
    """Write results.md and .csv: a row for each arm."""
    page = f"# {results.grid} on {results.base}\n\nClaim: {results.claim} ({results.source})\n\n"
    page += "" if results.states_recipe else f"{RECIPE_NOT_STATED}\n\n"
    page += text.unverifiable(results) + text.of_other_data(results) + text.baked_in(results)
    page += f"{text.costs_markdown(results)}\n{_matched(results)}\n"
    if results.measures:
        page += f"\n{text.OVER_SEEDS} {_evaluation_settings(results)}\n{text.reliability_markdown(results)}"
        page += _metrics(results)
    if results.has_fid:
        page += _differences(results, stem.with_name("differences"))
    return _write(stem, tables.results_table(results), page, results.run_ids)


def _metrics(results: GridResults) -> str:
    """Return the tables of every metric, with intervals over seeds, then over samples."""
    assert results.key is not None
    page = ""
    if metrics := text.metrics_markdown(results):
        extrapolated = f" {text.EXTRAPOLATED}" if set(tables.values(results)) - set(results.measures) else ""
        page += f"\n## All metrics ({results.key.extractor_and_n})\n\n"
        page += f"Intervals over seeds. ↓: lower is better, ↑: higher.{extrapolated}\n\n{metrics}"
    if over_samples := text.samples_markdown(results):
        meaning = text.over_samples(results.measures)
        page += f"\n## Intervals over samples\n\nHalf-width, averaged over runs, of the {meaning}\n\n{over_samples}"
    return page


def _differences(results: GridResults, stem: Path) -> str:
    """Write the differences of FID, and return what they show as text."""
    assert results.key is not None
    gaps = tables.differences(results, "fid")
    _write_table(stem, gaps, results.run_ids)
    sentences = md.bullets(text.findings(gaps, results.label("fid")))
    if not sentences:
        return ""
    corrected = "Intervals are over paired seeds, and are not corrected for the number of comparisons."
    return f"\n## Differences between arms\n\n{sentences}\n{corrected}\n"


def _matched(results: GridResults) -> str:
    """Return which quantities are equal across arms, and which are not, in one sentence."""
    costs = tables.costs(results)
    parts = []
    for name, values in (("steps", costs.steps), ("parameters", costs.parameters), ("MACs", costs.macs_per_call)):
        if values.isna().any():
            parts.append(f"{name} partly unknown")
        elif values.max() == values.min():
            parts.append(f"{name} equal")
        else:
            parts.append(f"{name} differ by a factor of up to {values.max() / values.min():.2f}")
    if results.control:
        parts.append(f"training MACs equal those of {results.control}, and steps are those of {results.control}")
    intent = f" The grid is meant to match {' and '.join(results.matched)}." if results.matched else ""
    return f"Across arms: {', '.join(parts)}.{intent}"


def _evaluation_settings(results: GridResults) -> str:
    """Return the settings of the evaluation and the noise floor, in one sentence."""
    key = results.key
    assert key is not None
    named = f"{results.label('fid')}:" if results.has_fid else f"Evaluated with {key.extractor_and_n}:"
    floors = {METRICS[name].title: results.floor(name) for name in FRECHET}
    scores = " and ".join(f"{name} {floor:.2f}" for name, floor in floors.items() if floor is not None)
    return f"{named} {_sampler(results)}, {key.weights} weights, {_decoded(key)}against {_reference(key)}" + (
        f"; real images score {scores} at this n (noise floor, 20 draws)." if scores else "."
    )


def _decoded(key: EvaluationKey) -> str:
    """Return which autoencoder made images of what was sampled; "" if none did."""
    return f"decoded by the autoencoder with SHA-256 {key.vae_sha256[:12]}..., " if key.vae_sha256 else ""


def _reference(key: EvaluationKey) -> str:
    """Return which reference the numbers are against, and whether Frechet distances use statistics in its file."""
    sha256 = f"(SHA-256 {key.reference_sha256[:12]}...)"
    if key.reference_kind == "images":
        return f"{key.reference_samples} images of {key.reference} {sha256}"
    images = f", for precision, recall and KID its {key.reference_samples} images" if key.reference_samples else ""
    return f"the statistics in the file {key.reference} {sha256}{images}"


def _curves(results: GridResults, stem: Path) -> list[Path]:
    assert results.key is not None
    name, floor = results.label("fid"), results.floor("fid")
    curve = tables.curves(results, "fid")
    by_seed = results.done.pivot_table(index=["arm", "compared_step"], columns="seed", values="fid")
    by_seed.columns = [f"seed_{seed}" for seed in by_seed.columns]
    by_seed.index.names = ["arm", "step"]
    table = curve.merge(by_seed.reset_index(), on=["arm", "step"]).merge(
        tables.costs(results).drop(columns="steps"), on="arm"
    )
    page = f"{name}, mean ± half-width of the 95 % interval over seeds\n\n"
    page += f"{text.curve_markdown(results, curve)}{text.reliability_markdown(results)}"
    theirs = published.curves(results.grid)
    if theirs is not None:
        page += f"\nFID-50K as reported in the paper ({published.WHERE})\n\n{published.markdown(results.grid)}"
        page += f"\n{md.bullets(published.notes(results.grid))}"
    title = f"measured ({results.base})"
    arms, why = _measured_arms(results), results.unreliable.get("fid", "")
    drawn = figures.fid_over_steps(curve, arms, name, floor, title, text.step_name(results), theirs, why)
    style.save(drawn, stem.with_suffix(".png"))
    if theirs is not None:
        style.save_table(theirs, stem.with_name(f"{stem.name}_reported.csv"))
    return [_write(stem, table.assign(floor=floor), page, results.run_ids), stem.with_suffix(".png")]


def _other_curves(results: GridResults, stem: Path) -> list[Path]:
    """Write a panel for each metric except FID, if there are any."""
    metrics = [name for name in results.measures if name != "fid"]
    if not metrics:
        return []
    assert results.key is not None
    curve = tables.all_curves(results, metrics)
    names = {name: results.label(name) for name in metrics}
    title = f"{results.grid} on {results.base}"
    unreliable = {name: why for name, why in results.unreliable.items() if name in metrics}
    drawn = figures.metrics_over_steps(
        curve, _measured_arms(results), names, title, text.step_name(results), unreliable
    )
    style.save(drawn, stem.with_suffix(".png"))
    _write_table(stem, curve, results.run_ids)
    return [stem.with_suffix(".png")]


def _samples(results: GridResults, stem: Path) -> list[Path]:
    """Write the samples of every arm at its last step, from the same noise and labels, as in the paper's Figure 5."""
    last = results.done[results.done.step == results.done.steps]
    seeds = set.intersection(*(set(group.seed) for _, group in last.groupby("arm"))) if len(last) else set()
    if not seeds:
        return []
    chosen = last[last.seed == min(seeds)]
    title = f"{results.grid} on {results.base}: same noise and labels (columns), seed {min(seeds)}, {_sampler(results)}"
    return _sample_rows(results, chosen, chosen.arm, title, stem)


def _samples_over_steps(results: GridResults, stem: Path) -> list[Path]:
    """Write the samples of the first evaluated arm at its milestones, from the same noise and labels."""
    arm = _measured_arms(results)[0]
    of_arm = results.done[results.done.arm == arm]
    chosen = of_arm[of_arm.seed == of_arm.seed.min()].sort_values("step")
    title = f"{results.grid} on {results.base}: {arm}, seed {chosen.seed.iloc[0]}, along its milestones"
    return _sample_rows(results, chosen, [f"step {step}" for step in chosen.step], title, stem)


def _sample_rows(
    results: GridResults, chosen: pd.DataFrame, names: Iterable[str], title: str, stem: Path
) -> list[Path]:
    """Write a row of samples for each of the chosen records, as PNG and as CSV of the pixels, if they are few, with the
    run ids."""
    images: dict[str, Any] = {}
    rows, labels, classes = [], np.empty(0, dtype=np.int64), np.empty(0, dtype=np.str_)
    for name, record in zip(names, chosen.to_dict("records"), strict=True):
        path = results.folders[record["run_id"]].record(record["step"], record["key"])
        with np.load(path.with_name("samples.npz")) as stored:
            images[name], labels = stored["arr_0"][:SHOWN_SAMPLES], stored["labels"][:SHOWN_SAMPLES]
            if CLASS_NAMES in stored:
                classes = stored[CLASS_NAMES][:SHOWN_SAMPLES]
            elif labels.any():  # samples of before have no names
                classes = labels.astype(np.str_)
        flat = images[name].reshape(len(labels), -1)
        flat = flat if flat.shape[1] <= MOST_VALUES else flat[:, :0]
        rows += [
            {"row": name, "sample": i, "label": label, **{f"pixel_{p}": v for p, v in enumerate(pixels)}}
            for i, (label, pixels) in enumerate(zip(labels, flat, strict=True))
        ]
    if not len(classes):
        title = title.replace("noise and labels", "noise")
    style.save(sample_rows(images, list(classes), title), stem.with_suffix(".png"))
    _write_table(stem, pd.DataFrame(rows), list(chosen.run_id))
    return [stem.with_suffix(".png")]


def _measured_arms(results: GridResults) -> list[str]:
    return [arm for arm in results.arms if arm in set(results.done.arm)]


def _sampler(results: GridResults) -> str:
    assert results.key is not None
    fields = {"sampler": results.key.sampler.upper(), "sampler_steps": f"{results.key.sampler_steps} steps"}
    shown = [setting for field, setting in fields.items() if field not in results.varied]
    if "guidance" not in results.varied:
        shown.append(f"guidance {results.key.guidance:g}")
    if results.key.ddim_eta and "ddim_eta" not in results.varied:
        shown.append(f"eta {results.key.ddim_eta:g}")
    if results.key.precision != "float32" and "precision" not in results.varied:
        shown.append(f"network in {results.key.precision}")
    if results.key.labels == "balanced" and "labels" not in results.varied:
        shown.append("equally many of each class")
    return ", ".join([*shown, *(f"{field} as in the arm" for field in sorted(results.varied))])


def _write(stem: Path, table: pd.DataFrame, page: str, run_ids: list[str]) -> Path:
    """Write the page as Markdown and its table as CSV, with the ids of its runs; returns the path of the Markdown
    file."""
    style.save_text(page, stem.with_suffix(".md"))
    _write_table(stem, table, run_ids)
    return stem.with_suffix(".md")


def _write_table(stem: Path, table: pd.DataFrame, run_ids: list[str]) -> None:
    """Write the table as CSV, with the ids of its runs."""
    style.save_table(table, stem.with_suffix(".csv"))
    style.save_text(json.dumps(sorted(set(run_ids)), indent=1) + "\n", stem.with_suffix(".runs.json"))
