"""One attempt at a task: it owns the task's folder, reports its state there, and polls for requests to stop."""

import contextlib
import math
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from diffussm.distributed.group import SINGLE_PROCESS, ProcessGroup
from diffussm.errors import UserError
from diffussm.host.source import origin
from diffussm.run.outcome import is_of_disk, outcome_of
from diffussm.stopping import Stopped, StopRequest, Superseded
from diffussm.store.state import State
from diffussm.store.workdir import WorkDir

HEARTBEAT_SECONDS = 10.0  # maximum between two writes of the state
MONITOR_SECONDS = 1.0  # between two checks for cancellation, for a new owner, and for a report to write


class Attempt:
    """The attempt `number` at the task of `folder`, as a context manager that writes its first and its last state.

    The task polls the attempt's `stop`, which is set if the request given here is, if `is_cancelled` (called once a
    second) returns true, or if another attempt owns the folder. With several processes, rank zero writes the state and
    watches the owner; if any process fails, its error is the final state.
    """

    def __init__(
        self,
        folder: WorkDir,
        number: int,
        is_cancelled: Callable[[], bool],
        processes: ProcessGroup = SINGLE_PROCESS,
        stop: StopRequest | None = None,
    ):
        self.folder, self.number, self.processes = folder, number, processes
        self.stop = StopRequest(parent=stop)
        self._is_cancelled = is_cancelled
        self._state = State(phase="start", attempt=number)
        self._written: State | None = None
        self._warning = ""
        self._last_write = -math.inf
        self._heartbeat = 0
        self._writing = threading.Lock()
        self._ended = threading.Event()
        self._monitor_thread = threading.Thread(target=self._monitor, daemon=True)

    def report(self, **state: Any) -> None:
        """Write the state: at once if the phase is new, else within a second, in the thread that monitors the folder.

        Raises Superseded, and writes nothing, if the phase is new and the folder belongs to another attempt. That the
        disk takes no report ends no work.
        """
        new = State(attempt=self.number, **state)
        is_new, self._state = self._written is None or new.phase != self._state.phase, new
        if is_new:
            if self.processes.is_rank_zero and (superseded := self._superseded()):
                raise superseded
            try:
                self._write()
            except OSError as error:
                if not is_of_disk(error):
                    raise

    def warn(self, warning: str) -> None:
        """Let the state have a warning, from its next report on; "" removes it."""
        self._warning = warning

    def __enter__(self) -> "Attempt":
        self.processes.on_rank_zero(lambda: self.report(phase="start"))
        self._monitor_thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._monitor_thread.join()
        if isinstance(error, Superseded):
            return  # the state belongs to another attempt now
        self._state = self._final_state(error)
        if self.processes.world_size > 1 and self._state.has_failed:
            with contextlib.suppress(OSError, UserError):
                self._state = self.folder.record_failure(self.number, self._state)
        with contextlib.suppress(OSError, UserError):  # what ended the attempt is the error to raise
            if self.processes.is_rank_zero and self.folder.owner() == self.number:
                self._write()

    @property
    def has_progress(self) -> bool:
        """Whether at least one step or sample was made."""
        return not (self._state.step is self._state.sample is None)

    def _final_state(self, error: BaseException | None) -> State:
        rank = getattr(error, "rank", self.processes.rank)  # of another, if that passed it on
        where = f"rank {rank}: " if self.processes.world_size > 1 else ""
        outcome = outcome_of(error, self.has_progress, where)
        end: dict[str, Any] = {"phase": outcome.phase}
        if outcome.kind != "done":
            end["reason"] = outcome.reason
        if outcome.kind == "failed":
            end |= {"is_transient": outcome.is_transient, "code": origin()["code"]}
        return self._state.updated(**end)

    def _monitor(self) -> None:
        while not self._ended.wait(MONITOR_SECONDS):
            with contextlib.suppress(OSError, UserError):  # the disk may be full or unreachable for a while
                if self._is_cancelled():
                    self.stop.set(Stopped("cancelled", "cancelled"))
                if not self.processes.is_rank_zero:
                    continue
                if superseded := self._superseded():
                    self.stop.set(superseded)
                elif self._state.is_active and self._is_due:
                    self._write()

    @property
    def _is_due(self) -> bool:
        return self._state is not self._written or time.monotonic() - self._last_write > HEARTBEAT_SECONDS

    def _superseded(self) -> Superseded | None:
        owner = self.folder.owner()
        return None if owner == self.number else Superseded(f"{self.folder.describe_attempt(owner)} owns the folder")

    def _write(self) -> None:
        with self._writing:
            self._heartbeat += 1
            self._last_write = time.monotonic()
            state = self._state
            if self.processes.is_rank_zero:
                warning = {"warning": self._warning} if self._warning else {}
                self.folder.write_state(state.updated(heartbeat=self._heartbeat, **warning))
            self._written = state
