"""Columns of CSV tables, described: the parts that the tables of grids, benchmarks and documents share.

In names `<n>` stands for a number and `<metric>` for one of METRICS; in paths `<scale>` is small or paper, `<device>`
cpu or cuda, `<suite>` a suite of benchmarks.
"""

import re
from typing import NamedTuple

from diffussm.metric_table import METRICS


class Column(NamedTuple):
    """A column of a CSV table, or a field of a record."""

    name: str
    meaning: str
    unit: str
    source: str


class Table(NamedTuple):
    """A CSV table that reports write."""

    path: str
    rows: str  # what a row describes
    columns: tuple[Column, ...]


CLOSED_FORM = "diffussm/cost/closed_form.py"
STEPS, MACS = "training steps", "multiply-adds, counted once"

PARAMETERS = Column("parameters", "of the network", "numbers", CLOSED_FORM)
MACS_PER_CALL = Column(
    "macs_per_call", "of the network on one image; empty where an external mixer does not define it", MACS, CLOSED_FORM
)
COST = (PARAMETERS, MACS_PER_CALL)

DEVICE = Column("device", "cpu or cuda", "-", "torch")
THREADS = Column("threads", "threads of torch on the CPU", "threads", "torch")


def stands_for(name: str, column: str) -> bool:
    """Return whether a described name is that of the column, or a pattern that matches it."""
    pattern = re.escape(name).replace("<n>", r"\d+").replace("<metric>", f"({'|'.join(METRICS)})")
    return re.fullmatch(pattern, column) is not None
