"""A folder that one process at a time works on: who owns it, what the owner says, what it prints. No locks.

owner-<attempt>.json   one for each attempt, made by a hard link, so that of two only one is first; the highest owns
state.json             what the owner last said of itself, with a counter that moves while it lives
failure-<attempt>.json of an attempt by many processes: what the first that failed said of it
log-<attempt>.txt      what the attempt printed; log-<attempt>-<rank>.txt what its other processes did
"""

import os
from pathlib import Path

from diffussm.store.owner import Owner, this_process
from diffussm.store.reading import read_model
from diffussm.store.state import UNSTARTED, State
from diffussm.store.writing import link_first, to_json, write_whole


class WorkDir:
    """Ownership, state and logs of the folder `path`."""

    def __init__(self, path: Path):
        self.path = path

    def owner(self) -> int:
        """The attempt that owns the folder; 0 if none ever did."""
        try:
            names = os.listdir(self.path)
        except FileNotFoundError:
            return 0
        numbers = (name[len("owner-") : -len(".json")] for name in names if name.startswith("owner-"))
        return max((int(number) for number in numbers if number.isdigit()), default=0)

    def claim(self, after: int | None = None, job: str = "") -> int | None:
        """Take the folder over: the number of the new attempt, from 1.

        With `after`, only if that attempt still owns it (0: nobody), and None if another was first. `job` is noted: the
        scheduler's name of what this process belongs to.
        """
        owner = this_process().model_dump() | ({"job": job} if job else {})
        while True:
            attempt = (self.owner() if after is None else after) + 1
            if link_first(self.path / f"owner-{attempt}.json", to_json(owner)):
                return attempt
            if after is not None:
                return None

    def owner_process(self, attempt: int) -> Owner:
        """Return the process of an attempt."""
        return read_model(self.path / f"owner-{attempt}.json", Owner)

    def write_state(self, state: State) -> None:
        write_whole(self._state, to_json(state.reported()))

    def state(self) -> State:
        """Return what the owner last reported. Where one of its processes failed, that is merged into it, even if the
        owner was ended before it could report so."""
        try:
            state = read_model(self._state, State)
            return self._merged_with_failure(state) if state.is_active else state
        except FileNotFoundError:
            return UNSTARTED

    def fail(self, attempt: int, state: State) -> State:
        """Report with what state the attempt ends for a failure; return what the first of its processes reported."""
        link_first(self._failure(attempt), to_json(state.reported()))
        return read_model(self._failure(attempt), State)

    def _merged_with_failure(self, state: State) -> State:
        try:
            return state.updated(**read_model(self._failure(state.attempt), State).model_dump(exclude_unset=True))
        except FileNotFoundError:
            return state

    @property
    def _state(self) -> Path:
        return self.path / "state.json"

    def _failure(self, attempt: int) -> Path:
        return self.path / f"failure-{attempt}.json"

    def output(self, attempt: int, rank: int = 0) -> Path:
        return self.path / (f"log-{attempt}-{rank}.txt" if rank else f"log-{attempt}.txt")

    def outputs(self) -> list[Path]:
        """By attempt and rank."""
        return sorted(self.path.glob("log-*.txt"), key=lambda path: [*map(int, path.stem.split("-")[1:])])

    def remove_temporaries(self) -> None:
        """Delete what a killed owner left half-written in this folder."""
        for path in self.path.glob(".*.tmp"):
            path.unlink(missing_ok=True)
