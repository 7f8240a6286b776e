"""The steps of a loop after which the processes of a group meet, to agree on what to do next.

A meeting is a collective operation: until the last process comes, the others wait.
"""

import time

from diffussm.distributed.group import ProcessGroup

MEETING_SECONDS = 5.0  # about as long from one meeting to the next, or one step if that takes longer


class Meetings:
    """The meetings of a loop: `every` steps apart, or MEETING_SECONDS where that many steps take longer.

    The first is after the first step, as nobody knows yet how long a step takes. A single process, which waits for
    nobody, meets after each step.
    """

    def __init__(self, processes: ProcessGroup, every: int, step: int):
        self._every = every if processes.world_size > 1 else 1
        self._step, self._next, self._time = step, step + 1, time.monotonic()

    def is_due(self, step: int) -> bool:
        return step >= self._next

    def seconds_per_step(self, step: int) -> float:
        """Return how long a step took this process since the last meeting."""
        return (time.monotonic() - self._time) / (step - self._step)

    def end(self, step: int, seconds_per_step: float) -> None:
        """End the meeting after `step`, at which the processes agreed on how long a step takes."""
        steps = MEETING_SECONDS / max(seconds_per_step, MEETING_SECONDS / self._every)
        self._step, self._next, self._time = step, step + max(int(steps), 1), time.monotonic()
