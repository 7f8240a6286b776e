"""Who still works: told from owner files and the heartbeats in states, without locks and without trusting clocks."""

import time
from collections.abc import Callable
from pathlib import Path

from diffussm.store.workdir import WorkDir

STALE_SECONDS = 60.0


class Liveness:
    """What this process has seen of heartbeats: an owner whose counter has not moved for 60 s of our clock is stale.

    One whose process ran here and is gone is stale at once. `by_mtime` takes the age of a state on first sight from
    its file's time, for whoever looks once and cannot wait; it is as good as the machines' clocks.
    """

    def __init__(self, by_mtime: bool = False, clock: Callable[[], float] = time.monotonic):
        self._by_mtime, self._clock = by_mtime, clock
        self._seen: dict[Path, tuple[tuple[int, int, int], float]] = {}

    def alive(self, work: WorkDir) -> bool:
        """Whether somebody works on the folder now."""
        owner = work.owner()
        if owner == 0:
            return False
        state = work.state()
        if state.attempt == owner and not state.is_active:
            return False
        if work.owner_process(owner).is_gone:
            return False
        beat = (owner, state.attempt, state.heartbeat)
        now = self._clock()
        if work.path not in self._seen or self._seen[work.path][0] != beat:
            first = work.path not in self._seen
            self._seen[work.path] = (beat, now - (_age(work) if first and self._by_mtime else 0.0))
        return now - self._seen[work.path][1] < STALE_SECONDS


def _age(work: WorkDir) -> float:
    path = work.path / "state.json"
    return max(0.0, time.time() - path.stat().st_mtime) if path.exists() else 0.0
