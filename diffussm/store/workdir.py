"""A folder that one process at a time works on: who owns it, what the owner says, what it prints. No locks.

owner-<attempt>.json   one for each attempt, made by a hard link, so that of two only one is first; the highest owns
state.json             what the owner last said of itself, with a counter that moves while it lives
failure-<attempt>.json of an attempt by many processes: what the first that failed said of it
log-<attempt>.txt      what the attempt printed; log-<attempt>-<rank>.txt what its other processes did
"""

import json
import os
from pathlib import Path
from typing import Any

from diffussm.errors import UserError
from diffussm.host.machine import place, process_start
from diffussm.store.writing import link_first, to_json, write_whole

ACTIVE = ("start", "train", "evaluate")  # phases of a state; in any other nobody works
FAILED = ("failed", "diverged")


def read_json(path: Path) -> Any:
    """UserError naming the file if it is no JSON: it was written whole, so something else spoiled it."""
    try:
        return json.loads(path.read_bytes())
    except ValueError:
        raise UserError(f"{path}: is damaged (not JSON)") from None


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
        here = {"place": place(), "pid": os.getpid(), "started": process_start(os.getpid())}
        content = to_json(here | ({"job": job} if job else {}))
        while True:
            attempt = (self.owner() if after is None else after) + 1
            if link_first(self.path / f"owner-{attempt}.json", content):
                return attempt
            if after is not None:
                return None

    def owner_process(self, attempt: int) -> dict[str, Any]:
        """Where an attempt runs: place, pid, when the process started, and its job if it has one."""
        return read_json(self.path / f"owner-{attempt}.json")

    def write_state(self, state: dict[str, Any]) -> None:
        write_whole(self.path / "state.json", to_json(state))

    def state(self) -> dict[str, Any]:
        """What the owner last said; empty if none ever started. Where one of its processes failed, that, even if the
        owner was ended before it could say so."""
        said: dict[str, Any] = {}
        try:
            said = read_json(self.path / "state.json")
            return said | read_json(self._failure(said["attempt"])) if said.get("phase") in ACTIVE else said
        except FileNotFoundError:
            return said

    def fail(self, attempt: int, state: dict[str, Any]) -> dict[str, Any]:
        """Say with what state the attempt ends for a failure; of many processes the first is right. What it said."""
        link_first(self._failure(attempt), to_json(state))
        return read_json(self._failure(attempt))

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
