"""Which backend computes: the fastest that runs, by a measured table; and a run that says which it was."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from diffussm import cli
from diffussm.config import resolve
from diffussm.run.execution import resolve_execution
from diffussm.ssm import selection, tune
from diffussm.ssm.compiled import convolution
from diffussm.store.rundir import RunDir
from tests.support import tiny


def test_a_run_records_its_backend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Settled at the first start; what does not run later gives way, in what is recorded too."""
    before = torch.get_num_threads()
    run = tiny.run_folder(tmp_path, **{"training.backend": "compiled"})
    try:
        assert resolve_execution(run, run.config()).backend == "compiled"
        assert resolve_execution(run, run.config(), device="cuda:1").backend == "chunked"
        assert "because compiled does not run here: computes on CPUs only, not on cuda" in capsys.readouterr().err
        monkeypatch.setattr(convolution, "unavailable_reason", lambda: "no numba here")
        assert resolve_execution(run, run.config()).backend == "chunked"
        assert "S4D uses chunked, because compiled does not run here: no numba here" in capsys.readouterr().err
        assert run.execution().backend == "compiled"
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("mixer", ["s4d", "attention"])
def test_a_fallback_from_the_fastest_is_logged(
    mixer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At every start of a run that `auto` gave another backend, because the fastest does not run."""
    before = torch.get_num_threads()
    monkeypatch.setattr(selection, "ranked", lambda *_: ["compiled", "fft"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(convolution, "unavailable_reason", lambda: "no numba here")
    run = RunDir.create(tmp_path, resolve("digits", {"model.mixer": mixer}))
    expected = f"{run.run_id}: S4D uses fft, because compiled does not run here: no numba here\n"
    try:
        for _ in range(2):
            assert resolve_execution(run, run.config()).backend == "fft"
            assert capsys.readouterr().err == (expected if mixer == "s4d" else "")
        monkeypatch.setattr(convolution, "unavailable_reason", lambda: "")
        assert resolve_execution(run, run.config()).backend == "fft"  # settled, and no fallback any more
        assert capsys.readouterr().err == ""
        assert resolve_execution(tiny.run_folder(tmp_path / "new"), run.config()).backend == "compiled"
        assert capsys.readouterr().err == ""
    finally:
        torch.set_num_threads(before)


def rows(*entries: tuple[str, int, int, str, float]) -> list[selection.BackendTiming]:
    return [selection.BackendTiming(d, "here", 2, width, length, 1, name, s) for d, width, length, name, s in entries]


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    known = rows(
        ("cpu", 64, 64, "fft", 1.0),
        ("cpu", 64, 64, "chunked", 2.0),
        ("cpu", 64, 4096, "compiled", 1.0),
        ("cpu", 64, 4096, "fft", 3.0),
    )
    selection.ranked.cache_clear()
    monkeypatch.setattr(selection, "table", lambda: known)
    yield
    selection.ranked.cache_clear()


@pytest.mark.usefixtures("measured")
def test_auto_is_the_fastest_at_the_nearest_measured_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    assert selection.select("auto", "cpu", 100, 100) == "fft"
    assert selection.select("auto", "cpu", 100, 2000) == "compiled"
    assert selection.select("auto", "cuda", 100, 2000) == "chunked"
    monkeypatch.setattr(convolution, "unavailable_reason", lambda: "no numba here")
    assert selection.select("auto", "cpu", 100, 2000) == "fft"
    assert selection.select("compiled", "cpu", 100, 2000) == "chunked"
    assert selection.select("reference", "cpu", 100, 2000) == "reference"


@pytest.mark.usefixtures("measured")
def test_a_fallback_has_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not selection.fallback_reason("auto", "compiled", "cpu", 100, 2000)
    assert not selection.fallback_reason("fft", "fft", "cpu", 100, 2000)
    assert not selection.fallback_reason("auto", "chunked", "cuda", 100, 2000)  # nothing was measured there
    monkeypatch.setattr(convolution, "unavailable_reason", lambda: "no numba here")
    assert selection.fallback_reason("auto", "fft", "cpu", 100, 2000) == "compiled does not run here: no numba here"
    assert (
        selection.fallback_reason("compiled", "chunked", "cpu", 64, 64) == "compiled does not run here: no numba here"
    )
    assert not selection.fallback_reason("auto", "fft", "cpu", 64, 64)  # the fastest there
    assert not selection.fallback_reason("auto", "reference", "cpu", 100, 2000)  # chosen by an earlier version


def test_the_table_that_ships_is_whole() -> None:
    shipped = selection.read(selection.SHIPPED)
    shapes = {(row.width, row.length) for row in shipped}
    assert {"chunked", "compiled"} <= {row.backend for row in shipped}
    for width, length in shapes:
        there = [row.backend for row in shipped if (row.width, row.length) == (width, length)]
        assert len(there) == len(set(there)) >= 2
    assert all(row.seconds > 0 and row.device == "cpu" for row in shipped)


def test_a_table_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(tune, "WIDTHS", (8,))
    monkeypatch.setattr(tune, "LENGTHS", (16, 40))
    monkeypatch.setattr(tune, "TOKENS", 80)
    monkeypatch.setattr("sys.argv", ["diffussm", "tune"])
    assert cli.main() == 0
    assert capsys.readouterr().out.endswith(f"{selection.tuned_path()}\n")
    selection.table.cache_clear()
    try:
        found = selection.table()
        assert {(row.width, row.length, row.batch) for row in found} == {(8, 16, 5), (8, 40, 2)}
        assert {row.backend for row in found} == {"fft", "chunked", "compiled"}
        tune.write(found, selection.tuned_path())
        monkeypatch.setattr(selection, "processor", lambda: "another machine")
        selection.table.cache_clear()
        assert selection.table() == selection.read(selection.SHIPPED)
    finally:
        selection.table.cache_clear()


@pytest.mark.parametrize(
    "text",
    [
        "of something else\n1\n",
        "{header}\ncpu,here,2,0,64,1,fft,1.0\n",
        "{header}\ncpu,here,2,64,64,-1,fft,1.0\n",
        "{header}\ncpu,here,2,64,64,1,fft,nan\n",
        "{header}\ncpu,here,2,64,64,1,fft,inf\n",
        "{header}\ncpu,here,2,64,64,1,fft,-1\n",
        "{header}\ncpu,here,2,64,64,1,fft,1.0\ncpu,here,2,64,64,1,chunked\n",
        "{header}\ncpu,here,2,64,64,1,fft,1.0\ncpu,here,2,64\n",
        "{header}\ncpu,here,2,64,64,1,fft," + "1" * 200_000 + "\n",
    ],
)
def test_a_spoiled_table_of_ones_own_is_none(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(selection, "processor", lambda: "here")
    selection.tuned_path().parent.mkdir()
    selection.tuned_path().write_text(text.format(header=",".join(selection.BackendTiming._fields)))
    selection.table.cache_clear()
    try:
        assert selection.table() == selection.read(selection.SHIPPED)
    finally:
        selection.table.cache_clear()
