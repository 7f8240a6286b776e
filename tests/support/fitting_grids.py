"""The shipped grids, each with the bases that it fits."""

import itertools
from collections.abc import Iterable

from ablations.grid import reading as grids

MISFITS = {
    ("scan_order", "mnist"),  # its Hilbert curve needs a power of two of tokens a side, not 28
    ("guidance", "photos"),  # which have no classes
}


def fitting(bases: Iterable[str]) -> list[tuple[str, str]]:
    """Return the names of grid and base of every shipped grid on those of `bases` that it fits."""
    return [pair for pair in itertools.product(grids.grids(), bases) if pair not in MISFITS]
