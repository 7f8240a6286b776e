"""What is unreliable is marked, with the reason, and does not decide the range of an axis."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import tests.support.synthetic_records as synthetic
from diffussm.commands.record_table import format_records
from diffussm.metric_table import METRICS
from reports.grid import axes, figures, tables
from reports.grid.report import results_page, runs_page
from reports.grid.results import GridResults, load
from tests.support import tiny


def loaded(folder: Path, monkeypatch: pytest.MonkeyPatch, samples: int, seeds: int) -> GridResults:
    monkeypatch.setitem(tiny.SETTINGS, "evaluation.samples", samples)
    arms = {arm: synthetic.ARMS[arm] for arm in "AB"}
    return load(synthetic.write(folder / "runs", synthetic.all_metrics, arms, seeds), folder / "runs")


def test_few_samples_and_two_seeds_are_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = loaded(tmp_path, monkeypatch, 60, 2)
    pages = [page(results, tmp_path / page.__name__).read_text() for page in (results_page, runs_page)]
    kid = f"- † KID is unreliable: n = 60, below 200: {METRICS['kid'].unreliable}."
    fid = f"- † FID is unreliable: n = 60, below 64: {METRICS['fid'].unreliable}."
    for text in pages:
        assert kid in text
        assert fid in text
        assert "- ‡ Of two seeds, Student's t has one degree of freedom" in text
    assert "| KID ↓ † |" in pages[0]
    assert "| 1.50 ± 6.35 ‡ |" in pages[0]


def test_enough_samples_and_seeds_are_not_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = loaded(tmp_path, monkeypatch, 1000, 3)
    assert [*results.unreliable] == ["clean_fid", "clean_fid_legacy"]
    text = results_page(results, tmp_path / "results").read_text()
    assert "‡" not in text
    assert "| KID ↓ |" in text
    assert "| FID (digits CNN, n = 1000) |" in text


def test_the_table_of_a_record_marks_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few, enough = (next(iter(loaded(tmp_path / str(n), monkeypatch, n, 1).found.values())) for n in (60, 1000))
    text = format_records({"mine": few})
    assert "KID †" in text
    assert f"† KID: unreliable: n = 60, below 200: {METRICS['kid'].unreliable}" in text.splitlines()
    assert "KID †" not in format_records({"mine": enough})


def curve(ends: tuple[float, float], n: int) -> pd.DataFrame:
    """Values 1 and 2 with an interval over n seeds at the second."""
    rows = [
        ("kid", "A", 1, 1.0, np.nan, np.nan, n, np.nan, np.nan),
        ("kid", "A", 2, 2.0, *ends, n, np.nan, np.nan),
    ]
    return pd.DataFrame(rows, columns=["metric", *tables.CURVE])


@pytest.mark.parametrize(
    ("ends", "n", "reason", "limits"),
    [
        ((-400.0, 400.0), 2, "", (0.75, 2.25)),  # of two seeds
        ((-400.0, 400.0), 3, "n is small", (0.75, 2.25)),  # of an unreliable metric
        ((-400.0, 400.0), 3, "", None),
        ((1.8, 2.2), 2, "", None),
    ],
)
def test_intervals_that_span_everything_are_cut(
    ends: tuple[float, float], n: int, reason: str, limits: tuple[float, float] | None
) -> None:
    reasons = {"kid": reason} if reason else {}
    figure = figures.metrics_over_steps(curve(ends, n), ["A"], {"kid": "KID"}, "a title", "step", reasons)
    (axis,) = figure.axes
    notes = [text.get_text() for text in axis.texts]
    if limits:
        assert axis.get_ylim() == pytest.approx(limits)
        assert notes == [axes.CUT]
    else:
        low, high = axis.get_ylim()
        assert low <= min(1.0, ends[0])
        assert high >= max(2.0, ends[1])
        assert not notes
    (legend,) = figure.legends
    note = legend.get_title().get_text()
    assert (f"\n† KID is unreliable: {reason}" in note) == bool(reason)
    assert ("over two: 12.7 standard errors" in note.replace("\n", " ")) == (n == 2)
    assert axis.get_title().startswith("KID †:" if reason else "KID:")
    plt.close(figure)


def test_a_logarithmic_axis_is_cut_too() -> None:
    drawn = curve((-400.0, 4000.0), 2)
    name = "FID (x, n = 1)"
    figure = figures.fid_over_steps(drawn, ["A"], name, 0.5, "a title", "step", None, "n is small")
    (axis,) = figure.axes
    low, high = axis.get_ylim()
    assert 0.3 < low < 0.5  # the noise floor is in the axis
    assert 2 < high < 4
    assert axes.CUT in [text.get_text() for text in axis.texts]
    plt.close(figure)
