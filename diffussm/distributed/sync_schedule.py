"""The steps of a loop after which the processes of a group synchronise, to agree on what to do next.

That takes a collective operation, in which all wait for the last one.
"""

import time

from diffussm.distributed.group import ProcessGroup

SYNC_SECONDS = 5.0  # about as long from one synchronisation to the next, or one step if that takes longer


class SyncSchedule:
    """When to synchronise: every `every` steps, or every SYNC_SECONDS where that many steps take longer.

    The first time is after the first step, as nobody knows yet how long a step takes. A single process, which waits for
    nobody, looks after each step.
    """

    def __init__(self, processes: ProcessGroup, every: int, step: int):
        self._every = every if processes.world_size > 1 else 1
        self._step, self._next, self._time = step, step + 1, time.monotonic()

    def is_due(self, step: int) -> bool:
        return step >= self._next

    def seconds_per_step(self, step: int) -> float:
        """Return how long a step took this process since it last synchronised."""
        return (time.monotonic() - self._time) / (step - self._step)

    def update(self, step: int, seconds_per_step: float) -> None:
        """Schedule the next time after `step`, given how long the processes agreed that a step takes."""
        steps = SYNC_SECONDS / max(seconds_per_step, SYNC_SECONDS / self._every)
        self._step, self._next, self._time = step, step + max(int(steps), 1), time.monotonic()
