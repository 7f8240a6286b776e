"""Which runs form a job array, and what a chain of arrays costs."""

from pathlib import Path

import pytest

from ablations.grid.schema import Resources
from ablations.plan.job import Job
from ablations.slurm.arrays import arrays, chained_seconds
from diffussm.store.rundir import RunDir


def jobs(*seconds: float, **needs: int) -> list[Job]:
    return [Job(RunDir(Path(f"run-{s}-{i}")), s, Resources(**needs)) for i, s in enumerate(seconds)]


def test_arrays_are_no_longer_than_the_site_allows_and_hold_every_run() -> None:
    asked = jobs(*range(1, 18))
    made = arrays(asked, max_size=5, throttle=0)
    assert [len(array.jobs) for array in made] == [5, 5, 5, 2]
    assert sorted(job.seconds for array in made for job in array.jobs) == sorted(job.seconds for job in asked)
    assert not any(array.depends_on_previous for array in made)


def test_the_longest_run_starts_first() -> None:
    (array,) = arrays(jobs(1, 3, 2), max_size=10, throttle=0)
    assert [job.seconds for job in array.jobs] == [3, 2, 1]


def test_runs_with_other_resources_form_an_array_of_their_own() -> None:
    made = arrays([*jobs(1, 2), *jobs(3, 4, gpus=2)], max_size=10, throttle=0)
    assert [(array.needs.gpus, len(array.jobs)) for array in made] == [(2, 2), (None, 2)]


def test_with_a_throttle_every_array_but_the_first_waits() -> None:
    """An array with other resources waits too: otherwise more runs than the throttle would run at a time."""
    made = arrays([*jobs(*range(7)), *jobs(3, gpus=2)], max_size=3, throttle=2)
    assert [array.depends_on_previous for array in made] == [False] + [True] * (len(made) - 1)


def test_the_cost_of_a_chain() -> None:
    """Runs of 10, 10, 10 and 1 s, two at a time, take 20 s in one array, and chains of arrays lose time."""
    together = arrays(jobs(10, 10, 10, 1), max_size=10, throttle=2)
    assert chained_seconds(together, 2) == (20, 0)
    separate = arrays(jobs(10, 9, 2, 1, 1), max_size=3, throttle=2)  # 10, 9 + 2 | 1, 1
    assert chained_seconds(separate, 2) == (12, 0)
    worse = arrays(jobs(10, 1, 1, 1, 1), max_size=2, throttle=2)  # 10 | 1 | 1
    assert chained_seconds(worse, 2) == (12, 2)
    assert chained_seconds(arrays(jobs(10, 1, 1), max_size=1, throttle=0), 0) == (10, 0)
    assert chained_seconds([], 2) == (0, 0)


@pytest.mark.parametrize("max_size", [1, 2, 1000])
def test_one_run_is_one_array(max_size: int) -> None:
    assert [len(array.jobs) for array in arrays(jobs(5), max_size, throttle=1)] == [1]
