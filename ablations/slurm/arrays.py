"""From runs to job arrays: which runs go together, and which array waits for which. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from ablations.grid.schema import Resources
from ablations.plan.job import Job
from ablations.plan.makespan import schedule


@dataclass(frozen=True)
class Array:
    """Runs that ask for the same; with `waits`, none starts before all runs of the array before it have ended."""

    jobs: tuple[Job, ...]
    needs: Resources
    waits: bool


def arrays(jobs: Sequence[Job], most: int, throttle: int) -> list[Array]:
    """Arrays of at most `most` runs, the longest first: one of a kind of resources, or more where there are too many.

    A throttle holds within one array only, so with one they are chained.
    """
    kinds: dict[str, list[Job]] = {}
    for job in sorted(jobs, key=lambda job: job.seconds, reverse=True):
        kinds.setdefault(job.needs.model_dump_json(), []).append(job)
    out: list[Array] = []
    for same in kinds.values():
        for start in range(0, len(same), most):
            out.append(Array(tuple(same[start : start + most]), same[0].needs, waits=bool(out and throttle)))
    return out


def chained_seconds(arrays: Sequence[Array], throttle: int) -> tuple[float, float]:
    """When the last run ends if all wait for their turn as the arrays have it, and what of that is lost because an
    array waits for the last run of the one before it, while slots are free."""
    lengths = [[(job.seconds, 1) for job in array.jobs] for array in arrays]
    slots = throttle or sum(map(len, lengths))
    if not slots:
        return 0.0, 0.0
    together = schedule((length for each in lengths for length in each), slots)
    chained = sum(schedule(each, slots) for each in lengths) if throttle else together
    return chained, chained - together
