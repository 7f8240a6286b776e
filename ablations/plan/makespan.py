"""The duration of many runs on a few slots."""

from collections.abc import Iterable


def makespan(runs: Iterable[tuple[float, int]], slots: int) -> float:
    """Return the time at which the last of the runs (seconds, number of slots) ends, if the longest start
    first on `slots` slots."""
    free = [0.0] * slots
    for seconds, count in sorted(runs, reverse=True):
        count = min(count, slots)
        free.sort()
        free[:count] = [free[count - 1] + seconds] * count
    return max(free)
