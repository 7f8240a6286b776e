"""A folder that one process at a time works on: its owner, the state that the owner reports, its logs. No locks.

owner-<attempt>.json   one for each attempt, created by a hard link, so that only one process can; the highest owns
state.json             what the owner last reported, with a counter that increases while it lives
failure-<attempt>.json of an attempt by many processes: what the first one that failed reported
log-<attempt>.txt      what rank zero printed; log-<attempt>-<rank>.txt what the other ranks did
"""

import contextlib
import errno
import re
from collections.abc import Sequence
from pathlib import Path

from diffussm.errors import UserError
from diffussm.host.clock import utc
from diffussm.store.owner import Owner, this_process
from diffussm.store.reading import names_in, read_model
from diffussm.store.state import UNSTARTED, State
from diffussm.store.writing import overwrite, to_json, write_atomically, write_once

FULL_DISK_ERRNOS = (errno.ENOSPC, errno.EDQUOT)


class WorkDir:
    """Ownership, state and logs of the folder `path`."""

    def __init__(self, path: Path):
        self.path = path

    def owner(self) -> int:
        """Return the attempt that owns the folder; 0 if there was none."""
        return self._highest(r"owner-(\d+)\.json")

    def claim(self, expected_owner: int | None = None, job: str = "", gpus: Sequence[str] = ()) -> int | None:
        """Claim the folder; return the number of the new attempt, from 1.

        Return None if `expected_owner`, an attempt or 0, no longer owns it. `job` is stored: the scheduler's id of the
        job that this process belongs to; and the GPUs that it was given.
        """
        stated = {name: value for name, value in (("job", job), ("gpus", list(gpus))) if value}
        owner = this_process().model_dump(by_alias=True) | stated | {"claimed": utc()}
        while True:
            # Files of an attempt whose claim was lost are not overwritten. They are looked for before the owner is, so
            # that of processes that expect the same owner only one finds a number.
            attempt = self._highest(r"[a-z]+-(\d+)(?:-\d+)?\.(?:json|jsonl|txt)") + 1
            if expected_owner not in (None, self.owner()):
                return None
            if write_once(self.path / f"owner-{attempt}.json", to_json(owner)):
                return attempt
            if expected_owner is not None:
                return None

    def _highest(self, pattern: str) -> int:
        """Return the highest number in the names of files that match; 0 if there are none."""
        return max((int(match[1]) for name in names_in(self.path) if (match := re.fullmatch(pattern, name))), default=0)

    def owner_process(self, attempt: int) -> Owner:
        """Return the process of an attempt."""
        return read_model(self.path / f"owner-{attempt}.json", Owner)

    def describe_attempt(self, attempt: int) -> str:
        """Return the attempt and its process, if that is known: `attempt 2 (process 7 on node3, job 12)`."""
        with contextlib.suppress(FileNotFoundError, UserError):
            return f"attempt {attempt} ({self.owner_process(attempt)})"
        return f"attempt {attempt}"

    def write_state(self, state: State) -> None:
        """Write the state; on a full disk in place of the one before, so that it can say that the disk is full."""
        content = to_json(state.reported())
        try:
            write_atomically(self._state, content)
        except OSError as error:
            if error.errno not in FULL_DISK_ERRNOS or not self._state.is_file():
                raise
            overwrite(self._state, content)

    def state(self) -> State:
        """Return what the owner last reported, merged with the failure of one of its processes, which the owner may not
        have been able to report."""
        try:
            state = read_model(self._state, State)
            return self._merged_with_failure(state) if state.is_active else state
        except FileNotFoundError:
            return UNSTARTED

    def record_failure(self, attempt: int, state: State) -> State:
        """Record the state in which the attempt failed; return the one that its first process to fail recorded."""
        write_once(self._failure(attempt), to_json(state.reported()))
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

    def log_path(self, attempt: int, rank: int = 0) -> Path:
        return self.path / (f"log-{attempt}-{rank}.txt" if rank else f"log-{attempt}.txt")

    def log_paths(self) -> list[Path]:
        """Return the logs in order of attempt and rank."""
        return sorted(self.path.glob("log-*.txt"), key=lambda path: [*map(int, path.stem.split("-")[1:])])

    def remove_temporaries(self) -> None:
        """Delete what a killed owner left half-written in this folder, but no claim: its writer may be at work."""
        for path in self.path.glob(".*.tmp"):
            if not path.name.startswith(".owner-"):
                path.unlink(missing_ok=True)
