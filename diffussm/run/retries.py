"""When a task that failed is tried again in the same process."""

import time
from collections import Counter
from collections.abc import Callable

from diffussm.run.outcome import Outcome
from diffussm.run.tasks import Task

MAX_TRIES = 2  # of a task whose failure may pass
DISK_PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # seconds until each further try, while the disk takes nothing


class Retries:
    """Counts the failures of tasks. One that may pass is tried once more, at once. One for which the disk has to have
    room, or to come back, is tried again after ever longer pauses, for a minute in all."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._failures: Counter[Task] = Counter()
        self._disk_failures: Counter[Task] = Counter()
        self._paused_until: dict[Task, float] = {}

    def allow(self, task: Task, outcome: Outcome) -> bool:
        """Count a failure of the task; return whether it is tried again."""
        if outcome.awaits_disk:
            self._disk_failures[task] += 1
            if self._disk_failures[task] > len(DISK_PAUSES):
                return False
            self._paused_until[task] = self._clock() + DISK_PAUSES[self._disk_failures[task] - 1]
            return True
        self._failures[task] += 1
        return outcome.is_transient and self._failures[task] < MAX_TRIES

    def is_paused(self, task: Task) -> bool:
        """Return whether the task's next try is still to wait."""
        return self._clock() < self._paused_until.get(task, 0.0)

    def forget(self, task: Task) -> None:
        """Forget the failures of a task that ended well, or that is to be tried anew."""
        del self._failures[task], self._disk_failures[task]
        self._paused_until.pop(task, None)
