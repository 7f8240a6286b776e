"""Report pages of synthetic benchmark runs: crossings, ratios, missing benchmarks, files that are skipped."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import tests.support.synthetic_bench as synthetic
from reports import make_figures
from reports.bench import lengths, overhead, parts, report, roofline, speedup, suites, timing
from reports.bench.page import Page
from reports.bench.stored import Run, read
from tests.support.bench_session import session


def run_of(*benchmarks: dict, without_time: tuple[dict, ...] = (), folder: Path) -> Run:
    synthetic.write(folder, benchmarks, without_time)
    (run,), skipped = read(folder)
    assert skipped == []
    return run


def whole(page: Page | None) -> Page:
    assert page is not None
    return page


def test_a_benchmark_without_a_dtype_adds_none_to_the_description(tmp_path: Path) -> None:
    plan = synthetic.benchmark("planning", "plans", "plan", 0.1, dtype="")
    run = run_of(plan, synthetic.benchmark("data", "batches", "batch", 0.1), folder=tmp_path)
    assert ", , " not in run.about(run.timings)
    assert "float32" in run.about(run.timings)


def test_attention_crosses_where_its_line_does(tmp_path: Path) -> None:
    """Chunked is the fastest backend; the ends of the intervals give 0.9 / 1.1 and 1.1 / 0.9 of the length."""
    page = whole(lengths.page(run_of(*synthetic.mixers(), folder=tmp_path)))
    found = page.tables["crossings"].set_index("quantity")
    assert found.length.tolist() == pytest.approx([1000, 2000])
    assert found.loc["time", ["low", "high"]].tolist() == pytest.approx([1000 * 0.9 / 1.1, 1000 * 1.1 / 0.9])
    assert "attention becomes slower than S4D at L = 1,000 (by the ends of the intervals 818 to 1,222)" in page.text
    assert "attention becomes larger than S4D at L = 2,000." in page.text


@pytest.mark.parametrize(
    ("measured", "says"),
    [
        ((2048, 4096), "attention is slower than S4D at every L measured for both, 2,048 to 4,096; no crossing"),
        ((256, 512), "attention is slower than S4D at no L measured for both, 256 to 512; no crossing"),
    ],
)
def test_the_sentence_where_there_is_no_crossing(tmp_path: Path, measured: tuple[int, ...], says: str) -> None:
    page = whole(lengths.page(run_of(*synthetic.mixers(measured), folder=tmp_path)))
    found = page.tables["crossings"].set_index("quantity")
    assert np.isnan(found.length["time"])
    assert says in page.text
    assert page.figure is not None
    assert says in small_print(page)


def test_the_sentence_for_a_single_length(tmp_path: Path) -> None:
    timed = [
        one for one in synthetic.mixers() if one["name"] != "attention" or one["extra_info"]["shape"]["length"] == 4096
    ]
    text = whole(lengths.page(run_of(*timed, folder=tmp_path))).text
    assert "attention is slower than S4D at the only L measured for both, 4,096." in text


def test_no_crossing_where_attention_was_not_timed(tmp_path: Path) -> None:
    timed = [one for one in synthetic.mixers() if one["name"] != "attention"]
    assert "attention and S4D were not both measured." in whole(lengths.page(run_of(*timed, folder=tmp_path))).text


def small_print(page: Page) -> str:
    assert page.figure is not None
    return page.figure.get_supxlabel().replace("\n", " ")


def test_times_are_per_token(tmp_path: Path) -> None:
    """Half the batch in half the time gives the same time per token."""
    timed = synthetic.mixers()
    halved = timed[0]
    halved["extra_info"]["shape"]["batch"] //= 2
    halved["extra_info"]["interval"] = [end / 2 for end in halved["extra_info"]["interval"]]
    halved["extra_info"]["peak_memory"] //= 2
    halved["stats"]["median"] /= 2
    points = whole(lengths.page(run_of(*timed, folder=tmp_path))).tables["lengths"]
    fft = points[points.subject == "S4D (fft)"]
    assert fft.ns_per_token.tolist() == pytest.approx([2000] * 3)
    assert fft.ns_low.tolist() == pytest.approx([1800] * 3)
    assert fft.bytes_per_token.tolist() == pytest.approx([8000] * 3)


def test_benchmarks_without_a_time_are_listed(tmp_path: Path) -> None:
    group = synthetic.mixers()[0]["group"]
    untimed = synthetic.untimed(group, "S4D (compiled)", reason="needs a compiler")
    run = run_of(*synthetic.mixers(), without_time=(untimed,), folder=tmp_path)
    page = whole(lengths.page(run))
    assert f"S4D (compiled) ({group}): missing, needs a compiler" in page.text
    assert "not timed (reasons in the text): S4D (compiled): 1 missing" in small_print(page)
    table = whole(timing.page(run)).tables["timing"]
    (row,) = table[table.status == "missing"].to_dict("records")
    assert (row["suite"], row["name"], row["reason"]) == ("mixers", "S4D (compiled)", "needs a compiler")
    assert np.isnan(row["median_ms"])


def test_a_suite_lists_benchmarks_without_a_time(tmp_path: Path) -> None:
    untimed = synthetic.untimed("one of sampling", "UniPC", "skipped", "needs diffusers")
    run = run_of(*synthetic.others(), without_time=(untimed,), folder=tmp_path)
    page = whole(suites.page(run, "sampling"))
    assert "skipped: needs diffusers" in page.text
    assert page.figure is not None
    assert "skipped: needs diffusers" in [text.get_text() for axis in page.figure.axes for text in axis.texts]
    assert suites.page(run, "models") is None


def test_shares_of_parts(tmp_path: Path) -> None:
    timed = synthetic.parts({"mixer": 0.006, "norm": 0.002, "whole block": 0.01})
    table = whole(parts.page(run_of(*timed, folder=tmp_path))).tables["parts"].set_index("part")
    assert table.share.to_dict() == pytest.approx({"mixer": 0.75, "norm": 0.25})
    assert table.sum_over_whole.tolist() == pytest.approx([0.8, 0.8])


def test_shares_without_the_whole_block(tmp_path: Path) -> None:
    page = whole(parts.page(run_of(*synthetic.parts({"mixer": 0.006, "norm": 0.002}), folder=tmp_path)))
    assert page.tables["parts"].sum_over_whole.isna().all()
    assert "| 75.0 | 25.0 |  |" in page.text


def test_speedup_in_macs_and_in_seconds(tmp_path: Path) -> None:
    (row,) = whole(speedup.page(run_of(*synthetic.models(), folder=tmp_path))).tables["lead"].to_dict("records")
    assert (row["ours"], row["theirs"]) == ("DiffuSSM-S", "DiT-S/1")
    assert row["macs_lead"] == 3
    assert row["seconds_lead"] == pytest.approx(2)
    assert (row["seconds_low"], row["seconds_high"]) == pytest.approx((2 / 1.1, 2 / 0.9))


def test_speedup_from_the_inverse_ratio(tmp_path: Path) -> None:
    ours, theirs = synthetic.models()
    ours["extra_info"]["ratios"] = [synthetic.ratio("DiT-S/1", "DiffuSSM-S", 2)]
    ours["extra_info"]["headline_macs"] = None
    page = whole(speedup.page(run_of(ours, theirs, folder=tmp_path)))
    (row,) = page.tables["lead"].to_dict("records")
    assert row["ours"] == "DiffuSSM-S"
    assert (row["seconds_lead"], row["seconds_low"]) == pytest.approx((2, 1.8))
    assert np.isnan(row["macs_lead"])


def test_overhead_over_the_identity_mixer_and_bounds(tmp_path: Path) -> None:
    run = run_of(*synthetic.blocks(), folder=tmp_path)
    (row,) = whole(overhead.page(run)).tables["copies"].to_dict("records")
    assert (row["shape"], row["pass"]) == ("D = 64, L = 64, B = 128", "forward")
    assert (row["ratio"], row["low"], row["high"]) == pytest.approx((1.5, 1.35, 1.65))
    bounds = whole(roofline.page(run)).tables["roofline"]
    assert bounds.share_of_bound.tolist() == [0.25, 0.25]
    assert bounds.bound.tolist() == ["matmul", "matmul"]


def test_each_page_shows_the_newest_run_with_its_data(tmp_path: Path) -> None:
    """This holds for each scale and device, and the index names the run of each page."""
    stored, out = tmp_path / "stored", tmp_path / "out"
    synthetic.write(stored, synthetic.mixers(), when="20260101-000000")
    synthetic.write(stored, synthetic.blocks(), when="20260102-000000")
    synthetic.write(stored, synthetic.blocks(), when="20260103-000000", scale="paper")
    assert report.report(stored, out)
    text = (out / "bench.md").read_text()
    assert report.RULE in text
    assert "[Time and memory over length](small-cpu/lengths.md), from 20260101-000000.json" in text
    assert "[Overhead of S4D in a block](small-cpu/copies.md), from 20260102-000000.json" in text
    assert "[Overhead of S4D in a block](paper-cpu/copies.md), from 20260103-000000.json" in text
    assert not (out / "paper-cpu" / "lengths.md").exists()
    assert "P, 2 threads, torch 2, float32, 2026-01-01" in (out / "small-cpu" / "lengths.md").read_text()
    assert set(pd.read_csv(out / "small-cpu" / "timing.csv").suite) == {"blocks"}


def test_lengths_prefer_the_newest_run_that_compares(tmp_path: Path) -> None:
    """A newer run of some of the benchmarks is used only where there is no other."""

    def used() -> str:
        report.report(tmp_path / "stored", tmp_path / "out")
        lines = (tmp_path / "out" / "bench.md").read_text().splitlines()
        return next(line for line in lines if line.startswith("- [Time and memory over length]"))

    chunked = [one for one in synthetic.mixers() if one["name"] == "S4D (chunked)"]
    once = [one for one in synthetic.mixers() if one["name"] == "attention"][:1]
    synthetic.write(tmp_path / "stored", chunked, when="20260101-000000")
    synthetic.write(tmp_path / "stored", chunked + once, when="20260102-000000")
    assert used().endswith("from 20260102-000000.json")
    synthetic.write(tmp_path / "stored", synthetic.mixers(), when="20250101-000000")
    synthetic.write(tmp_path / "stored", synthetic.mixers(), when="20250102-000000")
    assert used().endswith("from 20250102-000000.json")


def test_timings_on_a_gpu_have_a_folder_of_their_own(tmp_path: Path) -> None:
    timed = synthetic.mixers()
    for one in timed:
        one["extra_info"]["device"] = "cuda"
    synthetic.write(tmp_path, timed, machine_info={**synthetic.MACHINE, "gpu": "G"})
    assert tmp_path / "out" / "small-cuda" / "lengths.png" in report.report(tmp_path, tmp_path / "out")
    assert "G, P, 2 threads" in (tmp_path / "out" / "small-cuda" / "lengths.md").read_text()


def test_files_of_other_formats_are_skipped_and_listed(tmp_path: Path) -> None:
    stats = {"median": 0.002, "q1": 0.001, "q3": 0.003, "rounds": 9}
    old = {"datetime": "2025-01-01T00:00:00", "machine_info": synthetic.MACHINE}
    benchmarks = [{"group": "mixer", "name": "fft", "stats": stats, "extra_info": {}}]
    stored = tmp_path / "runs" / "bench"
    stored.mkdir(parents=True)
    (stored / "20250101-000000.json").write_text(json.dumps({**old, "benchmarks": benchmarks}))
    (stored / "20250102-000000.json").write_text("")
    (stored / "20250103-000000.json").write_text("[]")
    (stored / "20250104-000000.json").write_bytes(b'{"scale": "\xff"}')
    assert make_figures.main(["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "bench" / "bench.md").read_text()
    assert "20250101-000000.json has the format from before suites" in text
    assert "20250102-000000.json is incomplete" in text
    for day in ("20250103", "20250104"):
        assert f"{day}-000000.json is not a stored run." in text


def test_every_page_is_written(tmp_path: Path) -> None:
    """Every page has a text, tables and a figure; the figure precedes the table that it shows."""
    synthetic.write(tmp_path, synthetic.every_suite())
    written = {path.name for path in report.report(tmp_path, tmp_path / "out")}
    drawn = {"lengths", "parts", "lead", "copies", *(f"time_{suite}" for suite in suites.SUITES)}
    pages = drawn | {"roofline", "timing"}
    assert written == {f"{name}.png" for name in drawn} | {f"{name}.md" for name in pages} | {"bench.md"}
    folder = tmp_path / "out" / "small-cpu"
    for name in pages:
        assert len(pd.read_csv(folder / f"{name}.csv")) > 0
    for name in drawn:
        assert (folder / f"{name}.png").stat().st_size > 5000
        assert (folder / f"{name}.md").read_text().index(f"![{name}]({name}.png)") < 200


def test_a_run_without_times_has_no_page(tmp_path: Path) -> None:
    synthetic.write(tmp_path, [], [synthetic.untimed("mixer", "attention")])
    assert report.report(tmp_path, tmp_path / "out") == [tmp_path / "out" / "bench.md"]
    assert "20260102-000000.json has no times: 1 missing." in (tmp_path / "out" / "bench.md").read_text()


NOTHING_TIMED = """
from bench.measure import missing


def test_broken(bench):
    raise ValueError("said")


def test_missing(bench):
    missing("a peer")
"""


def test_a_session_without_times_is_stored_and_listed(tmp_path: Path) -> None:
    """It is stored with the same fields as any other session."""
    stored = tmp_path / "stored" / "20260102-000000.json"
    stored.parent.mkdir()
    done = session(tmp_path / "made_up", NOTHING_TIMED, stored)
    assert done.returncode == 1, done.stdout
    content = json.loads(stored.read_text())
    assert {"machine_info", "datetime", "scale", "peaks"} <= content.keys()
    assert content["benchmarks"] == []
    assert [(one["status"], one["reason"]) for one in content["without_time"]] == [
        ("failed", "said"),
        ("missing", "a peer"),
    ]
    report.report(stored.parent, tmp_path / "out")
    assert f"{stored.name} has no times: 1 failed, 1 missing." in (tmp_path / "out" / "bench.md").read_text()


def test_no_page_where_no_run_is_stored(tmp_path: Path) -> None:
    assert report.report(tmp_path, tmp_path / "out") == []
    assert not (tmp_path / "out").exists()
