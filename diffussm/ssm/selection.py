"""Which backend computes S4D here: of those that run, the fastest by measured seconds.

`measured.csv` has forward and backward passes on one machine, which it names; `diffussm tune` measures another one and
keeps the table in the user's cache, where it comes first on the processor that it was made on. Of a device that nobody
has measured nothing is known: there the portable backend computes.
"""

import csv
import math
from functools import cache
from pathlib import Path
from typing import NamedTuple

from diffussm.host.machine import processor, user_cache
from diffussm.ssm.choice import BACKEND_NAMES, PORTABLE
from diffussm.ssm.compiled import convolution

SHIPPED = Path(__file__).with_name("measured.csv")
SPOILED = (KeyError, TypeError, ValueError, csv.Error)  # what `read` raises


class Measured(NamedTuple):
    """Seconds of a forward and backward pass on `batch` sequences."""

    device: str
    processor: str
    threads: int
    width: int
    length: int
    batch: int
    backend: str
    seconds: float


def select(requested: str, device: str, width: int, length: int) -> str:
    """The backend that computes sequences of (L, D) on `device`: the one requested, or the fastest for `auto`, if it
    runs here; else the portable one."""
    wanted = ranked(device, width, length) if requested == "auto" else [requested]
    return next((backend for backend in wanted if not obstacle(backend, device)), PORTABLE)


def obstacle(backend: str, device: str) -> str:
    """Why it cannot run; "" if it can."""
    if backend != "compiled":
        return ""
    return convolution.obstacle() if device == "cpu" else f"computes on CPUs only, not on {device}"


@cache
def ranked(device: str, width: int, length: int) -> list[str]:
    """Backends by their seconds at the measured shape nearest to this one, the fastest first."""
    known = [row for row in table() if row.device == device]
    if not known:
        return [PORTABLE]

    def distance(row: Measured) -> float:
        return abs(math.log(row.width / width)) + abs(math.log(row.length / length))

    nearest = min(known, key=distance)
    there = [row for row in known if (row.width, row.length) == (nearest.width, nearest.length)]
    return [row.backend for row in sorted(there, key=lambda row: row.seconds)]


@cache
def table() -> list[Measured]:
    """The user's own, of the devices that it has, if it was made on this kind of processor; else the one that ships."""
    try:
        own = [row for row in read(tuned()) if row.processor == processor()]
    except (OSError, RuntimeError, *SPOILED):  # none, not ours to read, no home, or not such a table
        own = []
    measured = {row.device for row in own}
    return own + [row for row in read(SHIPPED) if row.device not in measured]


def tuned() -> Path:
    """Where `diffussm tune` keeps what it measured."""
    return user_cache() / "measured.csv"


def read(path: Path) -> list[Measured]:
    """Rows of the backends that there are; one of `SPOILED` if any row lacks a column or a positive number."""
    with path.open(newline="") as file:
        rows = [_measured(row) for row in csv.DictReader(file)]
    return [row for row in rows if row.backend in BACKEND_NAMES]


def _measured(row: dict[str, str]) -> Measured:
    numbers = {name: row[name] for name in ("threads", "width", "length", "batch", "seconds")}
    if not all(0 < float(number) < math.inf for number in numbers.values()):
        raise ValueError(f"not all positive numbers: {numbers}")
    return Measured(
        row["device"],
        row["processor"],
        int(row["threads"]),
        int(row["width"]),
        int(row["length"]),
        int(row["batch"]),
        row["backend"],
        float(row["seconds"]),
    )
