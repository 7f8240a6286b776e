"""How long many runs take on a few slots."""

from collections.abc import Iterable


def schedule(runs: Iterable[tuple[float, int]], slots: int) -> float:
    """When the last of the runs (seconds, slots that it takes) ends, if the longest start first on `slots` slots."""
    free = [0.0] * slots
    for seconds, width in sorted(runs, reverse=True):
        width = min(width, slots)
        free.sort()
        free[:width] = [free[width - 1] + seconds] * width
    return max(free)
