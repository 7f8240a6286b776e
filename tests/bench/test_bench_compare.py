"""Comparing two stored runs: made ones, of which it is known whether they differ."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import false_discovery_control, mannwhitneyu

from bench import compare
from diffussm.errors import UserError
from tests.support import forked

ROOT = Path(__file__).parents[2]
MACHINE = {"processor": "P", "cores": 2, "threads": 2, "gpu": None, "torch": "2.11", "cuda": None, "python": "3.11"}
PEAKS = {"matmul": {"macs_per_second": 6e10}, "copy": {"bytes_per_second": 2e10}}
Times = dict[str, Sequence[float]]


def seconds(count: int, median: float = 0.1, seed: int = 0) -> list[float]:
    """Times as they come: skewed, a few per cent apart."""
    return list(median * np.exp(0.03 * np.random.default_rng(seed).gumbel(size=count)))


def clocks(mhz: float) -> dict[str, Any]:
    return {"start": {"cpu_mhz": [mhz, mhz], "gpu_mhz": None}, "end": {"cpu_mhz": [1, 1], "gpu_mhz": None}}


def run(times: Times, info: Mapping[str, Any] | None = None, **machine: Any) -> dict[str, Any]:
    about = {"version": 1, "dtype": "float32", "device": "cpu", **(info or {})}
    benchmarks = [
        {"group": "mixers", "name": name, "stats": {"data": list(data)}, "extra_info": about}
        for name, data in times.items()
    ]
    return {
        "machine_info": {**MACHINE, "host": "here", "clocks": clocks(2400), **machine},
        "scale": "small",
        "benchmarks": benchmarks,
        "peaks": PEAKS,
        "without_time": [],
    }


def verdicts(rows: Sequence[compare.Row]) -> dict[str, str]:
    return {row.name: row.verdict for row in rows}


def test_what_is_a_fifth_slower_is_found_and_nothing_else() -> None:
    old = run({"same": seconds(10, seed=1), "slower": seconds(10, seed=2), "faster": seconds(10, seed=3)})
    new = run({"same": seconds(10, seed=4), "slower": seconds(10, 0.12, 5), "faster": seconds(10, 0.08, 6)})
    rows = compare.compare(old, new)
    assert verdicts(rows) == {"same": "no difference", "slower": "slower", "faster": "faster"}
    assert {row.name: row.ratio for row in rows} == pytest.approx({"same": 1, "slower": 1.2, "faster": 0.8}, rel=0.05)


def test_one_difference_among_a_hundred() -> None:
    times = {str(n): seconds(10, seed=n) for n in range(100)}
    again = {str(n): seconds(10, 0.12 if n == 40 else 0.1, seed=1000 + n) for n in range(100)}
    assert [row.name for row in compare.compare(run(times), run(again)) if row.verdict != "no difference"] == ["40"]


def found_somewhere(correct: Callable[[list[float]], Sequence[float]], sessions: int) -> float:
    """Share of pairs of sessions, 50 equal benchmarks each, in which some difference is found."""
    found = 0
    for session in range(sessions):
        draw = np.random.default_rng(session)
        raw = mannwhitneyu(draw.exponential(size=(50, 10)), draw.exponential(size=(50, 10)), axis=1).pvalue
        found += min(correct(list(raw))) < compare.ALPHA
    return found / sessions


def test_the_correction_holds_over_many_benchmarks() -> None:
    """Some difference is found in at most 5 % of sessions, of 200, plus three standard errors; uncorrected, in most."""
    assert found_somewhere(compare.holm, 200) <= 0.05 + 3 * (0.05 * 0.95 / 200) ** 0.5
    assert found_somewhere(list, 20) > 0.5


def test_holm() -> None:
    """As in Holm's own order, back in the order given; never below Benjamini and Hochberg's."""
    assert compare.holm([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.09, 0.09, 0.5])
    p = list(np.random.default_rng(0).uniform(size=30) ** 3)
    assert (np.array(compare.holm(p)) >= false_discovery_control(p) - 1e-12).all()
    assert compare.holm([]) == []


def test_what_differs_no_more_than_the_peaks_is_within_the_drift() -> None:
    """Up or down, whichever way the peaks moved, and this is reported."""
    old = run({"up": seconds(10, seed=1), "down": seconds(10, seed=2), "double": seconds(10, seed=3)})
    new = run({"up": seconds(10, 0.12, 4), "down": seconds(10, 0.085, 5), "double": seconds(10, 0.2, 6)})
    new["peaks"] = {"matmul": {"macs_per_second": 6.3e10}, "copy": {"bytes_per_second": 1.5e10}}
    rows = compare.compare(old, new)
    assert verdicts(rows) == {"up": "within the drift", "down": "within the drift", "double": "slower"}
    lines = compare.table(rows, compare.control(old, new)).splitlines()
    assert lines[-4] == "0 faster, 1 slower, 2 within the drift, 0 no difference, 0 cannot tell; 3 compared"
    assert lines[-3].startswith("Control: matmul peak 1.05, copy peak 0.75 times that of the old run")
    assert lines[-1].startswith("The test compares these two sessions")
    assert lines[-1].endswith("small effects need several sessions.")


def test_versions_and_lone_benchmarks_are_shown_and_not_compared() -> None:
    old, new = (
        run({"both": seconds(9), "gone": seconds(9)}),
        run({"both": seconds(9, 0.2), "came": seconds(9)}, {"version": 2}),
    )
    new["without_time"] = [{"group": "mixers", "name": "gone", "status": "missing", "reason": "numba"}]
    found = verdicts(compare.compare(old, new))
    assert found == {
        "both": "not compared: versions 1 and 2",
        "gone": "only in the old run (missing: numba)",
        "came": "only in the new run",
    }


def test_other_dtypes_and_devices_are_not_compared() -> None:
    old, new = run({"a": seconds(9)}), run({"a": seconds(9)}, {"dtype": "bfloat16", "device": "cuda"})
    found = verdicts(compare.compare(old, new))
    assert found == {"a": "not compared: dtypes float32 and bfloat16, devices cpu and cuda"}


def test_too_few_rounds_are_reported() -> None:
    """Six rounds and six that do not overlap have p = 2/924, which twenty-five benchmarks make 0.054."""
    times = {str(n): seconds(6, seed=n) for n in range(25)}
    slower = {name: [2 * second for second in data] for name, data in times.items()}
    rows = compare.compare(run(times), run(slower))
    assert {row.verdict for row in rows} == {"cannot tell"}
    lines = compare.table(rows, {})
    assert "cannot tell  (too few rounds for so many benchmarks)" in lines
    assert "0 no difference, 25 cannot tell; 25 compared" in lines
    assert verdicts(compare.compare(run({"one": times["0"]}), run({"one": slower["0"]}))) == {"one": "slower"}


def test_nine_rounds_find_one_among_a_hundred_and_fifty() -> None:
    """By the exact distribution; the asymptotic, where times are equal, cannot tell of any."""
    times = {str(n): seconds(9, seed=n) for n in range(150)}
    again = {str(n): seconds(9, 1.0 if n == 40 else 0.1, seed=1000 + n) for n in range(150)}
    found = verdicts(compare.compare(run(times), run(again)))
    assert found.pop("40") == "slower"
    assert set(found.values()) == {"no difference"}
    again["40"][1] = again["40"][0]
    again["41"][1] = again["41"][0]
    found = verdicts(compare.compare(run(times), run(again)))
    assert (found["40"], found["41"], found["42"]) == ("cannot tell", "cannot tell", "no difference")


@pytest.mark.parametrize("field", MACHINE)
def test_other_machines_are_refused(field: str) -> None:
    old, new = run({"a": seconds(9)}), run({"a": seconds(9)}, **{field: "other"})
    with pytest.raises(UserError, match=rf"the machines differ: {field} \(.* and other\); --force"):
        compare.compare(old, new)
    assert verdicts(compare.compare(old, new, force=True)) == {"a": "no difference"}
    assert compare.notes(old, new) == [f"The machines differ: {field} ({MACHINE[field]} and other)."]


def test_another_host_and_its_clocks_are_noted() -> None:
    """And refuse nothing; of one host clocks come and go."""
    old, new = run({"a": seconds(9)}), run({"a": seconds(9)}, host="there", clocks=clocks(2100))
    assert verdicts(compare.compare(old, new)) == {"a": "no difference"}
    (output,) = compare.notes(old, new)
    assert output == "The runs are from two hosts: host (here and there), cpu_mhz (2400.0 and 2100.0)."
    assert compare.notes(old, run({"a": seconds(9)}, clocks=clocks(2100))) == []


def test_other_scales_are_refused() -> None:
    with pytest.raises(UserError, match="scale: small and paper"):
        compare.compare(run({"a": [1.0]}), {**run({"a": [1.0]}), "scale": "paper"}, force=True)


def test_the_command(tmp_path: Path) -> None:
    """As it is typed, with its table; a mistake is one line and exit code 2."""
    for name, data in {"old": run({"fft": seconds(9)}), "new": run({"fft": seconds(9, 0.2)})}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(data))

    def typed(*names: str, options: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        paths = [ROOT / "bench" / "compare.py", *(tmp_path / name for name in names)]
        return forked.run([sys.executable, *map(str, paths), *options], cwd=tmp_path)

    done = typed("old.json", "new.json")
    assert done.returncode == 0
    heading, _, first, *_ = done.stdout.splitlines()
    assert heading.split() == ["group", "benchmark", "new", "/", "old", "p", "verdict"]
    assert first.startswith("mixers  fft")
    assert "slower" in done.stdout
    (tmp_path / "other.json").write_text(json.dumps(run({"fft": seconds(9)}, torch="2.12")))
    assert typed("old.json", "other.json").returncode == 2
    assert typed("old.json", "other.json", options=["--force"]).stdout.startswith(
        "The machines differ: torch (2.11 and 2.12).\n\ngroup   benchmark"
    )
    assert "0 faster, 1 slower, 0 within the drift, 0 no difference, 0 cannot tell; 1 compared" in done.stdout
    (tmp_path / "empty.json").write_text("{}")
    for name, words in {"empty.json": "not a stored run", "none.json": "no such file"}.items():
        refused = typed("old.json", name)
        assert refused.returncode == 2
        assert refused.stderr.startswith(f"error: {tmp_path / name}: {words}")
        assert refused.stderr.count("\n") == 1
