"""The choice of the S4D backend: of those that run here, the fastest by measured seconds.

`measured.csv` has the times of forward and backward passes on one machine, which it names. `diffussm tune` measures
another machine and stores its table in the user's cache, which takes precedence on the processor that it was measured
on. On a device without measurements the portable backend computes.
"""

import csv
import math
from functools import cache
from pathlib import Path
from typing import NamedTuple

from diffussm.config import BACKEND_NAMES
from diffussm.host.machine import processor, user_cache
from diffussm.ssm.backends import PORTABLE
from diffussm.ssm.compiled import convolution

SHIPPED = Path(__file__).with_name("measured.csv")
MALFORMED = (KeyError, TypeError, ValueError, csv.Error)  # what `read` raises


class BackendTiming(NamedTuple):
    """Seconds that a forward and backward pass on `batch` sequences took."""

    device: str
    processor: str
    threads: int
    width: int
    length: int
    batch: int
    backend: str
    seconds: float


def select(requested: str, device: str, width: int, length: int) -> str:
    """Return the backend for sequences of (L, D) on `device`: the one requested, or the fastest for `auto`, if it runs
    here; else the portable one."""
    wanted = ranked(device, width, length) if requested == "auto" else [requested]
    return next((backend for backend in wanted if not unavailable_reason(backend, device)), PORTABLE)


def fallback_reason(requested: str, selected: str, device: str, width: int, length: int) -> str:
    """Return why `selected` computes instead of the backend requested or, for `auto`, of a faster one; "" if it is what
    was asked for."""
    wanted = ranked(device, width, length) if requested == "auto" else [requested]
    if selected != select(requested, device, width, length):
        return ""  # it was chosen otherwise, at the first start of a run
    preferred = wanted[: wanted.index(selected)] if selected in wanted else wanted
    return "; ".join(f"{backend} does not run here: {unavailable_reason(backend, device)}" for backend in preferred)


def unavailable_reason(backend: str, device: str) -> str:
    """Return why the backend cannot run on the device, or "" if it can."""
    if backend != "compiled":
        return ""
    return convolution.unavailable_reason() if device == "cpu" else f"computes on CPUs only, not on {device}"


@cache
def ranked(device: str, width: int, length: int) -> list[str]:
    """Return the backends, the fastest first, by their seconds at the measured shape nearest to this one."""
    known = [row for row in table() if row.device == device]
    if not known:
        return [PORTABLE]

    def distance(row: BackendTiming) -> float:
        return abs(math.log(row.width / width)) + abs(math.log(row.length / length))

    nearest = min(known, key=distance)
    candidates = [row for row in known if (row.width, row.length) == (nearest.width, nearest.length)]
    return [row.backend for row in sorted(candidates, key=lambda row: row.seconds)]


@cache
def table() -> list[BackendTiming]:
    """Return the user's measurements of this kind of processor, and the shipped ones for devices that they lack."""
    try:
        own = [row for row in read(tuned_path()) if row.processor == processor()]
    except (OSError, RuntimeError, *MALFORMED):  # there is none, it is unreadable, no home is known, or it is malformed
        own = []
    measured = {row.device for row in own}
    return own + [row for row in read(SHIPPED) if row.device not in measured]


def tuned_path() -> Path:
    """Return the path of the table that `diffussm tune` writes."""
    return user_cache() / "measured.csv"


def read(path: Path) -> list[BackendTiming]:
    """Return the rows of known backends; raises one of `MALFORMED` if a row has no positive number in some column."""
    with path.open(newline="") as file:
        rows = [_measured(row) for row in csv.DictReader(file)]
    return [row for row in rows if row.backend in BACKEND_NAMES]


def _measured(row: dict[str, str]) -> BackendTiming:
    numbers = {name: row[name] for name in ("threads", "width", "length", "batch", "seconds")}
    if not all(0 < float(number) < math.inf for number in numbers.values()):
        raise ValueError(f"expected positive numbers, found {numbers}")
    return BackendTiming(
        row["device"],
        row["processor"],
        int(row["threads"]),
        int(row["width"]),
        int(row["length"]),
        int(row["batch"]),
        row["backend"],
        float(row["seconds"]),
    )
