"""When the processes of a loop meet: at most ten steps and about five seconds apart."""

import pytest

from diffussm.distributed import meetings
from diffussm.distributed.group import SINGLE_PROCESS, ProcessGroup
from diffussm.distributed.meetings import Meetings


def steps_of_meetings(processes: ProcessGroup, seconds: float, first: int, last: int) -> list[int]:
    """The steps after which they meet where a step takes so many seconds."""
    plan, found = Meetings(processes, 10, first), []
    for step in range(first + 1, last + 1):
        if plan.is_due(step):
            found.append(step)
            plan.end(step, seconds)
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
def test_many_processes_meet_after_ten_steps_or_five_seconds(seconds: float, expected: list[int]) -> None:
    assert steps_of_meetings(ProcessGroup(0, 2), seconds, 0, expected[-1]) == expected


def test_after_a_resume_they_meet_after_the_first_step() -> None:
    assert steps_of_meetings(ProcessGroup(1, 8), 0.1, 400, 415) == [401, 411]


def test_a_single_process_meets_after_each_step() -> None:
    assert steps_of_meetings(SINGLE_PROCESS, 0.001, 0, 5) == [1, 2, 3, 4, 5]


def test_a_step_s_time_is_counted_from_the_last_meeting(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(meetings.time, "monotonic", lambda: now)
    plan = Meetings(ProcessGroup(0, 2), 10, 0)
    now += 3
    assert plan.seconds_per_step(1) == 3.0
    plan.end(1, 3.0)
    now += 4
    assert plan.seconds_per_step(11) == pytest.approx(0.4)
