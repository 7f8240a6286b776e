"""Tables and figures from records: their numbers, missing runs, and records that must not be mixed."""

import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

import tests.support.synthetic_records as synthetic
from diffussm.config import resolve
from diffussm.errors import UserError
from diffussm.metric_table import FRECHET, METRICS
from diffussm.metrics.key import evaluation_key
from diffussm.store import records
from diffussm.store.rundir import RunDir
from reports import make_figures
from reports.grid import figures, tables
from reports.grid import report as grid_report
from reports.grid import text as grid_text
from reports.grid.results import GridResults, frame, load
from tests.support import forked

ROOT = Path(__file__).parents[2]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Three arms, three seeds and known records; the last seed of C failed, its second was never started."""
    synthetic.write(tmp_path / "runs", synthetic.basic_metrics)
    return tmp_path / "runs"


@pytest.fixture
def full(tmp_path: Path) -> GridResults:
    """The same runs with every metric."""
    return load(synthetic.write(tmp_path / "full", synthetic.all_metrics), tmp_path / "full")


def test_all_files_are_written(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert make_figures.main(["--runs", str(runs), "--out", str(tmp_path / "out")]) == 0
    folder = tmp_path / "out" / "hourglass_vs_patch" / "digits"
    printed = capsys.readouterr().out.split()
    assert all(Path(path).exists() for path in printed)
    for name in (
        "runs",
        "results",
        "fid_over_steps",
        "samples",
        "samples_over_steps",
        "differences",
        "metrics_over_steps",
    ):
        ids = json.loads((folder / f"{name}.runs.json").read_text())
        assert ids
        assert all((runs / run_id).is_dir() for run_id in ids)
        assert len(pd.read_csv(folder / f"{name}.csv"))
    assert {path.name for path in folder.glob("*.png")} == {
        "fid_over_steps.png",
        "samples.png",
        "samples_over_steps.png",
        "metrics_over_steps.png",
    }
    text = (folder / "results.md").read_text()
    assert "FID (digits CNN, n = 12)" in text
    assert "2.00 ± 2.48" in text  # t(0.975, 2) / sqrt(3) of a standard deviation of 1
    assert "1 done, 1 missing, 1 diverged" in text
    assert re.search(r"Across arms: steps equal, parameters differ by a factor of up to 1\.\d\d, MACs differ", text)
    assert "A has a lower FID (digits CNN, n = 12) † than B" in text
    assert "A and C: 1 shared seed at step 24, too few for a conclusion." in text


def test_missing_and_failed_runs_have_rows(runs: Path) -> None:
    table = tables.run_table(load(runs / "grids" / "hourglass_vs_patch-digits.1.json", runs))
    assert len(table) == 9
    rows = {(row["arm"], row["seed"]): row for row in table.to_dict("records")}
    assert rows["C", 1]["state"] == "missing"
    assert rows["C", 2]["state"] == "diverged"
    assert rows["C", 2]["reason"] == "loss is nan at step 8"
    assert rows["A", 0]["last_measured_step"] == 24


def test_numbers(runs: Path) -> None:
    results = load(runs / "grids" / "hourglass_vs_patch-digits.1.json", runs)
    curve = tables.curves(results, "fid").set_index(["arm", "step"])
    assert curve.loc[("A", 24), "mean"] == pytest.approx(2.0)
    assert curve.loc[("A", 8), "mean"] == pytest.approx(6.0)
    assert curve.loc[("C", 24), "n"] == 1
    assert np.isnan(curve.loc[("C", 24), "seeds_low"])
    gaps = tables.differences(results, "fid").set_index(["step", "arm", "other"])
    assert gaps.loc[(24, "A", "B"), "mean"] == pytest.approx(-4.1)
    assert gaps.loc[(24, "A", "B"), "separates"]


def test_every_metric_is_in_the_table_with_both_intervals(full: GridResults) -> None:
    table = tables.results_table(full).set_index("arm")
    assert [name for name in table if name in METRICS] == list(METRICS)
    half = scipy_stats.t.ppf(0.975, 2) / 3**0.5
    assert (table.fid_seeds_low["A"], table.fid_seeds_high["A"]) == (pytest.approx(2 - half), pytest.approx(2 + half))
    assert table.fid_samples_half_width["A"] == pytest.approx(0.2)  # a tenth of 1, 2 and 3, averaged
    assert table.fid_samples_half_width["C"] == pytest.approx(0.21)  # one run has one, too
    assert table.fid_infinity["A"] == pytest.approx(1.6)
    assert not {"clean_fid_samples_half_width", "kid_infinity"} & set(table)


def test_the_text_distinguishes_the_two_intervals(full: GridResults, tmp_path: Path) -> None:
    text = grid_report.results_page(full, tmp_path / "results").read_text()
    costs, metrics, samples = (lines.split("\n\n")[0] for lines in text.split("| arm ")[1:])
    assert "| FID (digits CNN, n = 12) † |" in costs
    assert "2.00 ± 2.48" in costs
    titles = ["FID ↓ †", "FID at n = ∞ ↓ †", "sFID ↓ †", "sFID at n = ∞ ↓ †"]  # n = 12 is too few for all
    others = [metric for name, metric in METRICS.items() if name not in FRECHET]
    titles += [f"{metric.title} {'↑' if metric.better == 'higher' else '↓'} †" for metric in others]
    assert {"IS ↑ †", "KID ↓ †", "precision ↑ †", "label accuracy ↑ †", "clean-fid, legacy ↓ †"} <= set(titles)
    assert metrics.startswith(f"| {' | '.join(titles)} |\n")
    assert "| A | 2.00 ± 2.48 | 1.60 ± 1.99 | 4.00 ± 4.97 |" in metrics
    assert "| A | 0.20 | 0.40 |" in samples
    assert "clean-fid" not in samples
    assert grid_text.OVER_SEEDS in text
    assert f"Half-width, averaged over runs, of the {grid_text.over_samples(full.measures)}" in text
    assert text.count("digits CNN, n = 12") == 4  # not in every column: costs, what ± is of, the heading, a finding


def test_runs_have_the_metrics_of_the_last_evaluated_milestone(full: GridResults, tmp_path: Path) -> None:
    run = tables.run_table(full).set_index(["arm", "seed"]).loc["A", 1]
    assert run.fid == 2.0
    assert (run.fid_samples_low, run.fid_samples_high) == (pytest.approx(1.8), pytest.approx(2.2))
    assert (run.fid_infinity, run.fid_floor) == (pytest.approx(1.6), 0.2)
    missing = tables.run_table(full).set_index(["arm", "seed"]).loc["C", 1]
    assert pd.isna(missing.fid)
    text = grid_report.runs_page(full, tmp_path / "runs").read_text()
    assert "| A | 1 | 24 | 2.00 (1.80 to 2.20) | 1.60 | 4.00 (3.60 to 4.40) | 3.20 | 8.60 (7.74 to 9.46) |" in text
    assert grid_text.over_samples(full.measures) in text


def test_curves_have_both_intervals(full: GridResults) -> None:
    curve = tables.curves(full, "fid").set_index(["arm", "step"]).loc[("A", 8)]
    assert (curve["mean"], curve.samples_low, curve.samples_high) == (6, pytest.approx(5.4), pytest.approx(6.6))
    assert curve.seeds_high - curve.seeds_low == pytest.approx(6 * scipy_stats.t.ppf(0.975, 2) / 3**0.5)
    both = tables.all_curves(full, ["sfid", "clean_fid"])
    assert list(both.metric.unique()) == ["sfid", "clean_fid"]
    assert both[both.metric == "clean_fid"].samples_low.isna().all()


def test_figures_show_the_available_intervals(full: GridResults) -> None:
    metrics = ["sfid", "kid", "recall", "clean_fid"]
    curve = tables.all_curves(full, metrics)
    assert full.key is not None
    names = {name: full.key.metric_label(name) for name in metrics}
    figure = figures.metrics_over_steps(curve, full.arms, names, "a title", "step")
    sfid, *_, clean_fid = figure.axes
    assert sfid.get_ylabel() == "digits CNN, n = 12"
    assert clean_fid.get_ylabel() == "its own Inception, n = 12"
    titles = ["sFID: lower", "KID: lower", "recall: higher", "clean-fid: lower"]
    assert [axis.get_title() for axis in figure.axes] == [f"{title} is better" for title in titles]
    (legend,) = figure.legends
    note = "bands: 95 % over seeds; bars, side by side: 95 % over the samples of one run"
    assert legend.get_title().get_text() == note
    assert [text.get_text() for text in legend.get_texts()] == ["A", "B", "C"]
    plt.close(figure)


@pytest.mark.parametrize(
    ("values", "scale"), [((0.02, 0.001), "log"), ((0.02, 0.0), "linear"), ((0.02, 0.01), "linear")]
)
def test_a_log_axis_where_all_values_are_positive_and_span_a_decade(values: tuple[float, float], scale: str) -> None:
    rows = [("kid", "A", step, v, np.nan, np.nan, 1, v, v) for step, v in enumerate(values, 1)]
    curve = pd.DataFrame(rows, columns=["metric", *tables.CURVE])
    figure = figures.metrics_over_steps(curve, ["A"], {"kid": "KID (x, n = 1)"}, "a title", "step")
    assert figure.axes[0].get_yscale() == scale
    plt.close(figure)


def test_one_seed_of_one_arm(tmp_path: Path) -> None:
    results = load(
        synthetic.write(tmp_path / "runs", synthetic.all_metrics, {"A": synthetic.ARMS["A"]}, 1), tmp_path / "runs"
    )
    assert len(grid_report.report(results, tmp_path)) == 7
    text = (tmp_path / "hourglass_vs_patch" / "digits" / "results.md").read_text()
    assert "| A | 1.00 (one seed) | 0.80 (one seed) |" in text
    assert "| A | 0.10 | 0.20 |" in text


def test_first_records_have_no_intervals_over_samples(runs: Path, tmp_path: Path) -> None:
    results = load(runs / "grids" / "hourglass_vs_patch-digits.1.json", runs)
    text = grid_report.results_page(results, tmp_path / "results").read_text()
    assert "| C | 2.10 (one seed) | 0.500 (one seed) |" in text
    assert "ver samples" not in text
    assert "∞" not in text
    assert tables.curves(results, "fid").samples_low.isna().all()
    assert list(tables.run_table(results))[-3:] == ["fid", "fid_floor", "label_accuracy"]


def test_some_records_may_miss_metrics_that_others_have(tmp_path: Path) -> None:
    def metrics(arm: str, seed: int, step: int) -> dict[str, float]:
        return (synthetic.all_metrics if seed else synthetic.basic_metrics)(arm, seed, step)

    results = load(synthetic.write(tmp_path / "runs", metrics), tmp_path / "runs")
    table = tables.results_table(results).set_index("arm")
    assert table.sfid["A"] == pytest.approx(5)  # of seeds 1 and 2
    assert table.fid_samples_half_width["A"] == pytest.approx(0.25)
    curve = tables.curves(results, "fid").set_index(["arm", "step"]).loc[("A", 24)]
    assert (curve["mean"], curve.samples_low) == (2, pytest.approx(1.75))
    text = grid_report.results_page(results, tmp_path / "results").read_text()
    assert "| C | 2.10 (one seed) | missing |" in text


def test_only_arms_that_differ_in_one_axis_are_compared(runs: Path) -> None:
    results = load(runs / "grids" / "hourglass_vs_patch-digits.1.json", runs)
    levels = {"A": ("1", "x"), "B": ("2", "x"), "C": ("2", "y")}
    two_axes = replace(results, levels={arm: dict(zip(("one", "two"), v, strict=True)) for arm, v in levels.items()})
    gaps = tables.differences(two_axes, "fid")
    assert set(zip(gaps.arm, gaps.other, strict=True)) == {("A", "B"), ("B", "C")}


def test_a_grid_without_records_is_a_table_of_missing_runs(runs: Path, tmp_path: Path) -> None:
    for path in runs.glob("*/milestones"):
        shutil.rmtree(path)
    assert make_figures.main(["--runs", str(runs), "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "hourglass_vs_patch" / "digits" / "results.md").read_text()
    assert text.count("3 missing") == 2
    assert "2 missing, 1 diverged" in text


def test_records_of_different_keys_are_not_mixed(runs: Path) -> None:
    path = runs / "grids" / "hourglass_vs_patch-digits.1.json"
    content = json.loads(path.read_text())
    entry = content["runs"][0]
    folder = RunDir(runs / entry["run_id"])
    for step in entry["milestones"]:
        record = records.read(folder.record(step, entry["key"]))
        assert record is not None
        other = record.model_copy(update={"key": record.key.model_copy(update={"guidance": 2.0})})
        records.write(other, folder.record(step, other.key.digest))
    entry["key"] = other.key.digest
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"differ in how they were measured \(guidance\)"):
        load(path, runs)
    for each in content["runs"]:
        each["overrides"]["evaluation.guidance"] = 1.0  # now the grid itself varies it
    path.write_text(json.dumps(content))
    assert load(path, runs).varied == {"guidance"}


def record(**key: object) -> records.Record:
    plain = evaluation_key(resolve("digits"))
    changed = plain.model_copy(update=key)
    return records.Record(run_id="a-run", step=5, key=changed, metrics={"fid": 1.0}, timing={}, provenance={})


def test_a_frame_of_records_has_one_key() -> None:
    table = frame([record(), record()])
    assert list(table) == ["run_id", "step", "key", "fid"]
    with pytest.raises(UserError, match=r"differ in how they were measured \(clip, guidance\): not comparable"):
        frame([record(), record(guidance=2.0, clip=False)])
    with pytest.raises(UserError, match=r"\(clip\)"):
        frame([record(), record(guidance=2.0, clip=False)], varied={"guidance"})
    assert list(frame([record(), record(guidance=2.0)], varied={"guidance"}).guidance) == [1.0, 2.0]
    with pytest.raises(UserError, match=r"\(samples\)"):
        frame([record(), record(samples=50)], varied={"samples"})
    assert len(frame([record(), record(reference="the same file under another name")])) == 2
    for unknown in ({}, {"reference_sha256": ""}):
        with pytest.raises(UserError, match=r"\(reference"):
            frame([record(**unknown), record(reference="another", reference_sha256="f" * 64 if not unknown else "")])
    assert list(frame([])) == ["run_id", "step", "key"]


def test_results_cannot_be_made_of_mixed_records(full: GridResults) -> None:
    """Results check their records however they are made."""
    one = full.found[0]
    other = one.model_copy(update={"key": one.key.model_copy(update={"extractor": "another"})})
    with pytest.raises(UserError, match=r"digits\.1\.json: records differ in how they were measured \(extractor\)"):
        replace(full, found={**full.found, 0: other})
    with pytest.raises(UserError, match=r"\(extractor\)"):
        replace(full, found={**full.found, 0: other}, varied=frozenset({"extractor"}))
    with pytest.raises((TypeError, ValueError), match="init=False"):  # from Python 3.13 on a TypeError
        replace(full, table=full.table)


def test_the_error_without_runs_names_the_command_that_makes_them(tmp_path: Path) -> None:
    command = [sys.executable, "reports/make_figures.py", "--runs", str(tmp_path), "--out", str(tmp_path / "out")]
    done = forked.run(command, cwd=ROOT)
    assert done.returncode == 2
    assert done.stderr.endswith(
        f"make them with: python ablations/launch.py --grid hourglass_vs_patch --runs {tmp_path}\n"
    )
    assert done.stderr.count("\n") == 1
