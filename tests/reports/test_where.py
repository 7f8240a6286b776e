"""Reports are read from and written to the working directory, and nothing is written where there are no runs."""

from pathlib import Path

import pytest

import tests.support.synthetic_records as synthetic
from ablations.options import script
from diffussm.errors import UserError
from reports import make_figures

ROOT = Path(__file__).parents[2]


def test_runs_and_reports_are_those_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    synthetic.write(tmp_path / "runs", synthetic.basic_metrics)
    assert make_figures.main([]) == 0
    written = capsys.readouterr().out.split()
    assert "reports/out/hourglass_vs_patch/digits/results.md" in written
    assert all((tmp_path / path).is_file() for path in written)


def test_without_runs_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    launch = f"python {ROOT}/ablations/launch.py --grid hourglass_vs_patch"
    with pytest.raises(UserError, match=f"{tmp_path}/runs: there are no runs; make them with: {launch}$"):
        make_figures.main([])
    assert not list(tmp_path.iterdir())


def test_commands_that_are_shown_work_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert script("reports/make_figures.py") == "python reports/make_figures.py"
    monkeypatch.chdir(ROOT / "docs")
    assert script("reports/make_figures.py") == f"python {ROOT}/reports/make_figures.py"
    monkeypatch.chdir(ROOT.parent)
    assert script("reports/make_figures.py") == f"python {ROOT.name}/reports/make_figures.py"
