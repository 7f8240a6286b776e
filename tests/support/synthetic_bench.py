"""A synthetic stored benchmark run with known numbers: nothing is timed.

A token takes S4D (fft) 2 and S4D (chunked) 1 microseconds at every length, attention L / 1000: they cross at L = 1000.
It takes S4D 8000 and 4000 bytes, attention 2 L: in memory it crosses chunked at L = 2000. Intervals reach a tenth.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

TOKENS = 16384
LENGTHS = (256, 1024, 4096)
PEAKS = {"matmul": {"macs_per_second": 1e11}, "copy": {"bytes_per_second": 1e10}}
MACHINE = {"processor": "P", "threads": 2, "torch": "2", "gpu": None}


def benchmark(suite: str, group: str, subject: str, seconds: float, **info: Any) -> dict[str, Any]:
    """Named after its subject; `info` is what its `extra_info` has beside or instead of the plain."""
    stats = {"median": seconds, "q1": 0.95 * seconds, "q3": 1.05 * seconds, "rounds": 9, "data": [seconds] * 9}
    plain: dict[str, Any] = {
        "version": 1,
        "suite": suite,
        "subject": subject,
        "shape": {},
        "pass": "",
        "device": "cpu",
        "dtype": "float32",
        "threads": 2,
        "interval": [0.9 * seconds, 1.1 * seconds],
        "peak_memory": None,
        "macs": None,
        "headline_macs": None,
        "bytes": None,
        "roofline": None,
        "items": None,
        "ratios": [],
    }
    return {"group": group, "name": subject, "stats": stats, "extra_info": plain | info}


def ratio(of: str, to: str, median: float, which: str = "forward") -> dict[str, Any]:
    return {"of": of, "to": to, "pass": which, "median": median, "low": 0.9 * median, "high": 1.1 * median, "n": 9}


def mixers(lengths: Iterable[int] = LENGTHS, which: str = "forward") -> list[dict[str, Any]]:
    """Return the mixers described at the top of this module."""
    made = []
    for length in lengths:
        per_token = {  # microseconds, bytes
            "S4D (fft)": (2, 8000),
            "S4D (chunked)": (1, 4000),
            "attention": (length / 1000, 2 * length),
            "identity": (0.01, 100),
        }
        shape = {"width": 384, "length": length, "batch": TOKENS // length}
        for subject, (microseconds, size) in per_token.items():
            timed = benchmark("mixers", f"mixer, {which}, L = {length}", subject, 1e-6 * microseconds * TOKENS)
            timed["extra_info"] |= {"shape": shape, "pass": which, "peak_memory": size * TOKENS, "bytes": 8 * TOKENS}
            made.append(timed)
    return made


def parts(seconds: Mapping[str, float]) -> list[dict[str, Any]]:
    shape = {"width": 384, "length": 1024, "batch": 4}
    return [
        benchmark("parts", "parts of a block", part, one, shape=shape, **{"pass": "forward"})
        for part, one in seconds.items()
    ]


def blocks() -> list[dict[str, Any]]:
    """With S4D 1.5 times the time of the block with a copy, which reaches a quarter of its bound."""
    shape = {"width": 64, "length": 64, "batch": 128}
    about: dict[str, Any] = {"shape": shape, "pass": "forward", "roofline": {"bound": "matmul", "share": 0.25}}
    ratios = [ratio("S4D", "identity", 1.5)]
    return [
        benchmark("blocks", "block", "S4D", 0.003, **about, ratios=ratios),
        benchmark("blocks", "block", "identity", 0.002, **about),
    ]


def models() -> list[dict[str, Any]]:
    """DiT has 3 times the multiply-adds of DiffuSSM, and takes twice its seconds."""
    about = {"pass": "forward", "items": 4}
    ratios = [ratio("DiffuSSM-S", "DiT-S/1", 0.5)]
    return [
        benchmark("models", "models, in turns", "DiffuSSM-S", 0.2, **about, headline_macs=10**9, ratios=ratios),
        benchmark("models", "models, in turns", "DiT-S/1", 0.4, **about, headline_macs=3 * 10**9),
    ]


def others() -> list[dict[str, Any]]:
    """One of each suite that has no page of its own kind."""
    suites = ("sampling", "evaluation", "data", "planning", "startup")
    return [benchmark(suite, f"one of {suite}", suite, 0.1) for suite in suites]


def every_suite() -> list[dict[str, Any]]:
    return (
        mixers()
        + parts({"mixer": 0.006, "norm": 0.001, "dense": 0.003, "whole block": 0.011})
        + blocks()
        + models()
        + others()
    )


def untimed(group: str, name: str, status: str = "missing", reason: str = "needs a GPU") -> dict[str, Any]:
    return {"group": group, "name": name, "status": status, "reason": reason}


def write(
    folder: Path,
    benchmarks: Iterable[Mapping[str, Any]],
    without_time: Iterable[Mapping[str, Any]] = (),
    when: str = "20260102-000000",
    **changed: Any,
) -> Path:
    """The run of that time; `changed` is what it has beside or instead of the plain."""
    content = {
        "datetime": f"{when[:4]}-{when[4:6]}-{when[6:8]}T00:00:00",
        "machine_info": MACHINE,
        "benchmarks": list(benchmarks),
        "scale": "small",
        "peaks": PEAKS,
        "without_time": list(without_time),
        **changed,
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{when}.json"
    path.write_text(json.dumps(content))
    return path
