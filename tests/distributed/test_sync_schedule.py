"""When the processes of a loop synchronise: at most ten steps and about five seconds apart."""

import pytest

from diffussm.distributed import sync_schedule
from diffussm.distributed.group import SINGLE_PROCESS, ProcessGroup
from diffussm.distributed.sync_schedule import SyncSchedule


def sync_steps(processes: ProcessGroup, seconds: float, first: int, last: int) -> list[int]:
    """The steps after which they synchronise where a step takes so many seconds."""
    schedule, found = SyncSchedule(processes, 10, first), []
    for step in range(first + 1, last + 1):
        if schedule.is_due(step):
            found.append(step)
            schedule.update(step, seconds)
    return found


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.0, [1, 11, 21, 31]),
        (0.5, [1, 11, 21, 31]),
        (0.6, [1, 9, 17, 25, 33]),
        (1.7, [1, 3, 5, 7]),
        (5.1, [1, 2, 3, 4]),
        (40.0, [1, 2, 3, 4]),
    ],
)
def test_many_processes_synchronise_after_ten_steps_or_five_seconds(seconds: float, expected: list[int]) -> None:
    assert sync_steps(ProcessGroup(0, 2), seconds, 0, expected[-1]) == expected


def test_after_a_resume_they_synchronise_after_the_first_step() -> None:
    assert sync_steps(ProcessGroup(1, 8), 0.1, 400, 415) == [401, 411]


def test_a_single_process_looks_after_each_step() -> None:
    assert sync_steps(SINGLE_PROCESS, 0.001, 0, 5) == [1, 2, 3, 4, 5]


def test_a_step_s_time_is_counted_from_the_last_synchronisation(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(sync_schedule.time, "monotonic", lambda: now)
    schedule = SyncSchedule(ProcessGroup(0, 2), 10, 0)
    now += 3
    assert schedule.seconds_per_step(1) == 3.0
    schedule.update(1, 3.0)
    now += 4
    assert schedule.seconds_per_step(11) == pytest.approx(0.4)
