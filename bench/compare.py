"""Two stored runs of the benchmarks: what is faster, what is slower, what does not differ.

    python bench/compare.py runs/bench/OLD.json runs/bench/NEW.json

Each benchmark's rounds by the Mann-Whitney test, two-sided, its p-values corrected over all benchmarks by Holm's
method. The test is about these two sessions, not about the code: the rounds of a session are not independent, and a
machine drifts between sessions, so that two of one commit differ too. As the control stand the measured peaks, which no
change of the code moves: what differs no more than they do is within the drift. Small effects need several sessions.
What is timed differently (another `version`, dtype or device) is not compared, nor are runs of different machines.
"""

import argparse
import json
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script from a clone

from scipy.stats import mannwhitneyu

from diffussm.errors import Parser, UserError, exit_code
from diffussm.tables import aligned

ALPHA = 0.05
MACHINE = ("processor", "cores", "threads", "gpu", "torch", "cuda", "python")
TIMED_ALIKE = ("version", "dtype", "device")
FIELDS = {"benchmarks", "machine_info", "peaks", "scale", "without_time"}
PEAKS = {"matmul": "macs_per_second", "copy": "bytes_per_second"}
FASTER, SLOWER, DRIFT, SAME, CANNOT_TELL = "faster", "slower", "within the drift", "no difference", "cannot tell"
TOO_FEW_ROUNDS = "  (too few rounds for so many benchmarks)"
VERDICTS = (FASTER, SLOWER, DRIFT, SAME, CANNOT_TELL)
Key = tuple[str, str]  # group and name


class Row(NamedTuple):
    """A benchmark of both runs, or of one; `p` is corrected."""

    group: str
    name: str
    verdict: str
    ratio: float | None = None  # of medians, new to old
    p: float | None = None


def compare(old: Mapping[str, Any], new: Mapping[str, Any], force: bool = False) -> list[Row]:
    """Rows in the order of the old run, then those that are new. UserError for runs that cannot be compared."""
    _refuse_other_machine(old, new, force)
    if old["scale"] != new["scale"]:
        raise UserError(f"scale: {old['scale']} and {new['scale']}; runs of one scale can be compared")
    before, after = _by_key(old), _by_key(new)
    both = [key for key in before if key in after and not _timed_otherwise(before[key], after[key])]
    raw = [_p(_seconds(before[key]), _seconds(after[key])) for key in both]
    corrected = dict(zip(both, holm(raw), strict=True))
    drift = max(abs(math.log(ratio)) for ratio in control(old, new).values())
    rows = []
    for key in dict.fromkeys([*before, *after]):
        if key not in after or key not in before:
            rows.append(Row(*key, _alone(key, old if key not in before else new, "new" if key in after else "old")))
        elif key not in corrected:
            rows.append(Row(*key, f"not compared: {_timed_otherwise(before[key], after[key])}"))
        else:
            a, b = _seconds(before[key]), _seconds(after[key])
            ratio, p = statistics.median(b) / statistics.median(a), corrected[key]
            can_tell = _least_p(a, b) * len(both) < ALPHA  # rounds enough among so many benchmarks
            rows.append(Row(*key, _verdict(ratio, p, drift, can_tell), ratio, p))
    return rows


def control(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, float]:
    """Ratios of the measured peaks, new to old."""
    return {name: new["peaks"][name][rate] / old["peaks"][name][rate] for name, rate in PEAKS.items()}


def notes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Lines above the table: how the machines differ and, of two hosts, how their clocks do."""
    a, b = old["machine_info"], new["machine_info"]
    lines = [f"The machines differ: {', '.join(found)}."] if (found := _differences(a, b, MACHINE)) else []
    if hosts := _differences(a, b, ("host",)):
        before, after = _clocks(a), _clocks(b)
        lines.append(f"Of two hosts: {', '.join(hosts + _differences(before, after, list(before)))}.")
    return lines


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction (1979), in the order given."""
    order = sorted(range(len(p)), key=p.__getitem__)
    out, most = [0.0] * len(p), 0.0
    for rank, index in enumerate(order):
        most = max(most, min(1.0, (len(p) - rank) * p[index]))
        out[index] = most
    return out


def table(rows: Sequence[Row], peaks: Mapping[str, float]) -> str:
    """Return the rows as text and what they stand on; peaks: as `control`."""
    shown = [
        {
            "group": row.group,
            "benchmark": row.name,
            "new / old": "" if row.ratio is None else f"{row.ratio:.3f}",
            "p": "" if row.p is None else f"{row.p:.2g}",
            "verdict": f"{row.verdict}{TOO_FEW_ROUNDS if row.verdict == CANNOT_TELL else ''}",
        }
        for row in rows
    ]
    counts = {verdict: sum(row.verdict == verdict for row in rows) for verdict in VERDICTS}
    compared = sum(counts.values())
    drift = ", ".join(f"{name} peak {ratio:.2f}" for name, ratio in peaks.items())
    lines = [
        aligned(shown, ("group", "benchmark", "verdict")),
        "",
        ", ".join(f"{count} {verdict}" for verdict, count in counts.items()) + f"; {compared} compared",
        f"Control: {drift} of the old run's; ratios no further from 1 than these are within the drift.",
        f"Ratios of medians, new to old; p by Mann-Whitney, corrected by Holm over {compared}, level {ALPHA}.",
        "The test is about these two sessions: the rounds of a session are not independent and a machine drifts, so "
        "small effects need several sessions.",
    ]
    return "\n".join(lines)


def load(path: Path) -> dict[str, Any]:
    try:
        stored = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (ValueError, IsADirectoryError) as error:
        raise UserError(f"{path}: is no stored run of the benchmarks ({error})") from None
    if not isinstance(stored, dict) or not stored.keys() >= FIELDS:
        raise UserError(
            f"{path}: is no stored run of the benchmarks; allowed: what `pytest bench/ --benchmark-only` keeps"
        )
    return stored


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(description="Compare two stored runs of the benchmarks.")
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--force", action="store_true", help="although the machines differ")
    options: argparse.Namespace = parser.parse_args(arguments)
    old, new = load(options.old), load(options.new)
    rows = compare(old, new, options.force)
    if not rows:
        raise UserError("neither run has a benchmark")
    if above := notes(old, new):
        print("\n".join(above), end="\n\n")
    print(table(rows, control(old, new)))
    return 0


def _refuse_other_machine(old: Mapping[str, Any], new: Mapping[str, Any], force: bool) -> None:
    different = _differences(old["machine_info"], new["machine_info"], MACHINE)
    if different and not force:
        raise UserError(f"the machines differ: {', '.join(different)}; --force compares all the same")


def _differences(a: Mapping[str, Any], b: Mapping[str, Any], fields: Sequence[str]) -> list[str]:
    return [f"{field} ({a.get(field)} and {b.get(field)})" for field in fields if a.get(field) != b.get(field)]


def _clocks(machine: Mapping[str, Any]) -> dict[str, Any]:
    """At the start, the cores' by their median."""
    start = machine["clocks"]["start"].items()
    return {name: statistics.median(value) if isinstance(value, list) else value for name, value in start}


def _by_key(stored: Mapping[str, Any]) -> dict[Key, Mapping[str, Any]]:
    return {(one["group"], one["name"]): one for one in stored["benchmarks"]}


def _alone(key: Key, other: Mapping[str, Any], where: str) -> str:
    """Where else it has a time, and why not in the other run, if that says so."""
    why = [f"{one['status']}: {one['reason']}" for one in other["without_time"] if (one["group"], one["name"]) == key]
    return f"only in the {where} run" + (f" ({why[0]})" if why else "")


def _timed_otherwise(a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
    """What differs, in words; empty if nothing does."""
    pairs = {field: (a["extra_info"][field], b["extra_info"][field]) for field in TIMED_ALIKE}
    return ", ".join(f"{field}s {before} and {after}" for field, (before, after) in pairs.items() if before != after)


def _seconds(benchmark: Mapping[str, Any]) -> list[float]:
    return list(benchmark["stats"]["data"])


def _p(a: Sequence[float], b: Sequence[float]) -> float:
    return _p_by(_method(a, b), a, b)


def _least_p(a: Sequence[float], b: Sequence[float]) -> float:
    """Of as many rounds that do not overlap at all, by the same method."""
    return _p_by(_method(a, b), range(len(a)), range(len(a), len(a) + len(b)))


def _method(a: Sequence[float], b: Sequence[float]) -> str:
    """The exact distribution holds where no two times are equal."""
    return "exact" if len({*a, *b}) == len(a) + len(b) else "asymptotic"


def _p_by(method: str, a: Sequence[float], b: Sequence[float]) -> float:
    return float(mannwhitneyu(a, b, alternative="two-sided", method=method).pvalue)


def _verdict(ratio: float, p: float, drift: float, can_tell: bool) -> str:
    if p >= ALPHA:
        return SAME if can_tell else CANNOT_TELL
    if abs(math.log(ratio)) <= drift:
        return DRIFT
    return FASTER if ratio < 1 else SLOWER


if __name__ == "__main__":
    sys.exit(exit_code(main))
