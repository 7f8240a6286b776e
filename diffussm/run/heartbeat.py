"""Whether a process works on a folder, by owner files and heartbeats: without locks or clocks of other machines."""

import time
from collections.abc import Callable
from pathlib import Path

from diffussm.store.workdir import WorkDir

STALE_SECONDS = 60.0
POLL_SECONDS = 1.0


class Liveness:
    """The heartbeats that this process has seen. An owner is dead if its counter has not moved for 60 s of our clock,
    or at once if its process ran on this host and has ended.

    With `by_mtime`, for a caller that looks only once, a state that is seen for the first time is as old as its file,
    and a claim without a state as old as the owner's file: as accurate as the machines' clocks.
    """

    def __init__(self, by_mtime: bool = False, clock: Callable[[], float] = time.monotonic):
        self._by_mtime, self._clock = by_mtime, clock
        self._seen: dict[Path, tuple[tuple[int, int, int], float]] = {}

    def is_alive(self, folder: WorkDir) -> bool:
        """Return whether a process works on the folder now."""
        owner = folder.owner()
        if owner == 0:
            return False
        state = folder.state()
        if state.attempt == owner and not state.is_active:
            return False
        if folder.owner_process(owner).is_gone:
            return False
        beat = (owner, state.attempt, state.heartbeat)
        now = self._clock()
        if folder.path not in self._seen or self._seen[folder.path][0] != beat:
            is_new = folder.path not in self._seen
            last_sign = folder.path / ("state.json" if state.attempt == owner else f"owner-{owner}.json")
            self._seen[folder.path] = (beat, now - (_age(last_sign) if is_new and self._by_mtime else 0.0))
        return now - self._seen[folder.path][1] < STALE_SECONDS

    def is_alive_for_certain(self, folder: WorkDir) -> bool:
        """Return as `is_alive`, but wait until the heartbeat has moved, or the owner is dead: for a process that was
        started again in place of one that may have been the owner."""
        beats = set[tuple[int, int, int]]()
        while self.is_alive(folder):
            beats.add(self._seen[folder.path][0])
            if len(beats) > 1:
                return True
            time.sleep(POLL_SECONDS)
        return False


def _age(path: Path) -> float:
    return max(0.0, time.time() - path.stat().st_mtime) if path.exists() else 0.0
