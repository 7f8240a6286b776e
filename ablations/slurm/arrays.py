"""Job arrays: which runs share an array, and which array waits for which. Pure functions."""

from collections.abc import Sequence
from dataclasses import dataclass

from ablations.grid.schema import Resources
from ablations.plan.job import Job
from ablations.plan.makespan import makespan


@dataclass(frozen=True)
class Array:
    """Runs that need the same resources. With `depends_on_previous`, none starts before all runs of the previous array
    have ended."""

    jobs: tuple[Job, ...]
    needs: Resources
    depends_on_previous: bool


def arrays(jobs: Sequence[Job], max_size: int, throttle: int) -> list[Array]:
    """Group the runs into arrays of at most `max_size` runs with equal resources; the longest runs come first.

    SLURM applies a throttle within one array only, so with a throttle each array waits for the previous one.
    """
    by_needs: dict[str, list[Job]] = {}
    for job in sorted(jobs, key=lambda job: job.seconds, reverse=True):
        by_needs.setdefault(job.needs.model_dump_json(), []).append(job)
    out: list[Array] = []
    for same in by_needs.values():
        for start in range(0, len(same), max_size):
            out.append(
                Array(tuple(same[start : start + max_size]), same[0].needs, depends_on_previous=bool(out and throttle))
            )
    return out


def chained_seconds(arrays: Sequence[Array], throttle: int) -> tuple[float, float]:
    """Return the time at which the last run ends, and how much of it is lost because an array waits for the last run of
    the previous one while slots are free."""
    lengths = [[(job.seconds, 1) for job in array.jobs] for array in arrays]
    slots = throttle or sum(map(len, lengths))
    if not slots:
        return 0.0, 0.0
    together = makespan((length for each in lengths for length in each), slots)
    chained = sum(makespan(each, slots) for each in lengths) if throttle else together
    return chained, chained - together
