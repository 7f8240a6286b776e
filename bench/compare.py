"""Compare two stored runs of the benchmarks: which are faster, which slower, and which do not differ.

    python bench/compare.py runs/bench/OLD.json runs/bench/NEW.json

The rounds of each benchmark are compared by the two-sided Mann-Whitney test, with p-values corrected over all
benchmarks by Holm's method. The test compares these two sessions, not two versions of the code: the rounds of a session
are not independent and a machine drifts between sessions, so two sessions of one commit differ too. The measured peaks,
which no change of the code affects, serve as a control: a difference no larger than theirs is within the drift. Small
effects need several sessions. Benchmarks that are timed differently (another `version`, dtype or device) are not
compared, nor are runs of different machines.
"""

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
MUST_MATCH = ("version", "dtype", "device")
FIELDS = {"benchmarks", "machine_info", "peaks", "scale", "without_time"}
PEAKS = {"matmul": "macs_per_second", "copy": "bytes_per_second"}
FASTER, SLOWER, DRIFT, SAME, UNDECIDED = "faster", "slower", "within the drift", "no difference", "cannot tell"
TOO_FEW_ROUNDS = "  (too few rounds for so many benchmarks)"
VERDICTS = (FASTER, SLOWER, DRIFT, SAME, UNDECIDED)
Key = tuple[str, str]  # group and name


class Row(NamedTuple):
    """The comparison of a benchmark that is in both runs, or in one of them; `p` is corrected."""

    group: str
    name: str
    verdict: str
    ratio: float | None = None  # of medians, new to old
    p: float | None = None


def compare(old: Mapping[str, Any], new: Mapping[str, Any], force: bool = False) -> list[Row]:
    """Return rows in the order of the old run, then those of new benchmarks; UserError for incomparable runs."""
    _check_machines(old, new, force)
    if old["scale"] != new["scale"]:
        raise UserError(f"scale: {old['scale']} and {new['scale']}; only runs of one scale can be compared")
    before, after = _by_key(old), _by_key(new)
    both = [key for key in before if key in after and not _timed_differently(before[key], after[key])]
    raw = [_p(_seconds(before[key]), _seconds(after[key])) for key in both]
    corrected = dict(zip(both, holm(raw), strict=True))
    drift = max(abs(math.log(ratio)) for ratio in control(old, new).values())
    rows = []
    for key in dict.fromkeys([*before, *after]):
        if key not in after or key not in before:
            rows.append(Row(*key, _unmatched(key, old if key not in before else new, "new" if key in after else "old")))
        elif key not in corrected:
            rows.append(Row(*key, f"not compared: {_timed_differently(before[key], after[key])}"))
        else:
            a, b = _seconds(before[key]), _seconds(after[key])
            ratio, p = statistics.median(b) / statistics.median(a), corrected[key]
            decidable = _least_p(a, b) * len(both) < ALPHA  # whether there are enough rounds for so many benchmarks
            rows.append(Row(*key, _verdict(ratio, p, drift, decidable), ratio, p))
    return rows


def control(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, float]:
    """Return the ratios of the measured peaks, new to old."""
    return {name: new["peaks"][name][rate] / old["peaks"][name][rate] for name, rate in PEAKS.items()}


def notes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return the lines above the table: how the machines differ and, for two hosts, how their clock rates differ."""
    a, b = old["machine_info"], new["machine_info"]
    lines = [f"The machines differ: {', '.join(found)}."] if (found := _differences(a, b, MACHINE)) else []
    if hosts := _differences(a, b, ("host",)):
        before, after = _clocks(a), _clocks(b)
        lines.append(f"The runs are from two hosts: {', '.join(hosts + _differences(before, after, list(before)))}.")
    return lines


def holm(p: Sequence[float]) -> list[float]:
    """Return p-values after Holm's step-down correction (1979), in the given order."""
    order = sorted(range(len(p)), key=p.__getitem__)
    corrected, largest = [0.0] * len(p), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p) - rank) * p[index]))
        corrected[index] = largest
    return corrected


def table(rows: Sequence[Row], peaks: Mapping[str, float]) -> str:
    """Return the rows as text, with the basis of the verdicts; `peaks` is the result of `control`."""
    table_rows = [
        {
            "group": row.group,
            "benchmark": row.name,
            "new / old": "" if row.ratio is None else f"{row.ratio:.3f}",
            "p": "" if row.p is None else f"{row.p:.2g}",
            "verdict": f"{row.verdict}{TOO_FEW_ROUNDS if row.verdict == UNDECIDED else ''}",
        }
        for row in rows
    ]
    counts = {verdict: sum(row.verdict == verdict for row in rows) for verdict in VERDICTS}
    compared = sum(counts.values())
    peak_ratios = ", ".join(f"{name} peak {ratio:.2f}" for name, ratio in peaks.items())
    lines = [
        aligned(table_rows, ("group", "benchmark", "verdict")),
        "",
        ", ".join(f"{count} {verdict}" for verdict, count in counts.items()) + f"; {compared} compared",
        f"Control: {peak_ratios} times that of the old run; ratios no further from 1 than these are within the drift.",
        f"Ratios of medians, new to old; p by Mann-Whitney, corrected by Holm over {compared}, level {ALPHA}.",
        "The test compares these two sessions: the rounds of a session are not independent and a machine drifts, so "
        "small effects need several sessions.",
    ]
    return "\n".join(lines)


def load(path: Path) -> dict[str, Any]:
    """Return a stored run; UserError for any other file."""
    try:
        stored = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (ValueError, IsADirectoryError) as error:
        raise UserError(f"{path}: not a stored run of the benchmarks ({error})") from None
    if not isinstance(stored, dict) or not stored.keys() >= FIELDS:
        raise UserError(
            f"{path}: not a stored run of the benchmarks; allowed: a file that `pytest bench/ --benchmark-only` stores"
        )
    return stored


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(description="Compare two stored runs of the benchmarks.")
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--force", action="store_true", help="compare even if the machines differ")
    options = parser.parse_args(arguments)
    old, new = load(options.old), load(options.new)
    rows = compare(old, new, options.force)
    if not rows:
        raise UserError(f"{options.old}, {options.new}: neither run has a benchmark")
    if above := notes(old, new):
        print("\n".join(above), end="\n\n")
    print(table(rows, control(old, new)))
    return 0


def _check_machines(old: Mapping[str, Any], new: Mapping[str, Any], force: bool) -> None:
    different = _differences(old["machine_info"], new["machine_info"], MACHINE)
    if different and not force:
        raise UserError(f"the machines differ: {', '.join(different)}; --force compares the runs nevertheless")


def _differences(a: Mapping[str, Any], b: Mapping[str, Any], fields: Sequence[str]) -> list[str]:
    return [f"{field} ({a.get(field)} and {b.get(field)})" for field in fields if a.get(field) != b.get(field)]


def _clocks(machine: Mapping[str, Any]) -> dict[str, Any]:
    """Return the clock rates at the start, of the cores by their median."""
    start = machine["clocks"]["start"].items()
    return {name: statistics.median(value) if isinstance(value, list) else value for name, value in start}


def _by_key(stored: Mapping[str, Any]) -> dict[Key, Mapping[str, Any]]:
    return {(one["group"], one["name"]): one for one in stored["benchmarks"]}


def _unmatched(key: Key, other: Mapping[str, Any], where: str) -> str:
    """Return in which run the benchmark is, and why it has no time in the other one, if that is stored."""
    reasons = [
        f"{one['status']}: {one['reason']}" for one in other["without_time"] if (one["group"], one["name"]) == key
    ]
    return f"only in the {where} run" + (f" ({reasons[0]})" if reasons else "")


def _timed_differently(a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
    """Return what differs in how two benchmarks were timed; "" if nothing does."""
    pairs = {field: (a["extra_info"][field], b["extra_info"][field]) for field in MUST_MATCH}
    return ", ".join(f"{field}s {before} and {after}" for field, (before, after) in pairs.items() if before != after)


def _seconds(benchmark: Mapping[str, Any]) -> list[float]:
    return list(benchmark["stats"]["data"])


def _p(a: Sequence[float], b: Sequence[float]) -> float:
    return _p_by(_method(a, b), a, b)


def _least_p(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the p-value of as many rounds that do not overlap at all, by the same method."""
    return _p_by(_method(a, b), range(len(a)), range(len(a), len(a) + len(b)))


def _method(a: Sequence[float], b: Sequence[float]) -> str:
    """Return the method: the exact distribution is valid if no two times are equal."""
    return "exact" if len({*a, *b}) == len(a) + len(b) else "asymptotic"


def _p_by(method: str, a: Sequence[float], b: Sequence[float]) -> float:
    return float(mannwhitneyu(a, b, alternative="two-sided", method=method).pvalue)


def _verdict(ratio: float, p: float, drift: float, decidable: bool) -> str:
    if p >= ALPHA:
        return SAME if decidable else UNDECIDED
    if abs(math.log(ratio)) <= drift:
        return DRIFT
    return FASTER if ratio < 1 else SLOWER


if __name__ == "__main__":
    sys.exit(exit_code(main))
