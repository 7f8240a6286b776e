"""One attempt at the work of a folder: it owns the folder, says how far it is, and hears when to stop."""

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
from diffussm.run.outcome import outcome_of
from diffussm.stopping import Stopped, StopRequest, Superseded
from diffussm.store.state import State
from diffussm.store.workdir import WorkDir

SAY_SECONDS = 0.5  # no oftener: nobody reads faster
BEAT_SECONDS = 10.0
LISTEN_SECONDS = 1.0


class Attempt:
    """The attempt `number` at `work`, as a context: a state is written when it begins, when it ends and in between.

    The work polls the attempt's `stop`: it is set by the given request, when `is_cancelled` (called once a second)
    returns true, and when another attempt owns the folder. Of many processes the first writes the state and watches
    who owns the folder; what any of them fails with is the state that it ends with.
    """

    def __init__(
        self,
        work: WorkDir,
        number: int,
        is_cancelled: Callable[[], bool],
        processes: ProcessGroup = SINGLE_PROCESS,
        stop: StopRequest | None = None,
    ):
        self.folder, self.number, self.processes = work, number, processes
        self.stop = StopRequest(within=stop)
        self._is_cancelled = is_cancelled
        self._state = State(phase="start", attempt=number)
        self._said = -math.inf
        self._beat = 0
        self._writing = threading.Lock()
        self._ended = threading.Event()
        self._listener = threading.Thread(target=self._listen, daemon=True)

    def say(self, **state: Any) -> None:
        """Write the state: at once when the phase changes, else no oftener than is worth reading.

        Raises Superseded, and writes nothing, where the folder belongs to another attempt.
        """
        new = State(attempt=self.number, **state)
        is_new, self._state = new.phase != self._state.phase, new
        if is_new or time.monotonic() - self._said > SAY_SECONDS:
            self._still_owner()
            self._write()

    def __enter__(self) -> "Attempt":
        self.processes.on_rank_zero(lambda: self.say(phase="start"))
        self._listener.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._listener.join()
        if isinstance(error, Superseded):
            return  # the state belongs to another attempt now
        self._state = self._final_state(error)
        if self.processes.world_size > 1 and self._state.has_failed:
            with contextlib.suppress(OSError, UserError):
                self._state = self.folder.fail(self.number, self._state)
        if self.processes.is_rank_zero and self.folder.owner() == self.number:
            self._write()

    @property
    def has_progress(self) -> bool:
        """Whether a first step or sample was made."""
        return not (self._state.step is self._state.sample is None)

    def _final_state(self, error: BaseException | None) -> State:
        where = f"rank {self.processes.rank}: " if self.processes.world_size > 1 else ""
        outcome = outcome_of(error, self.has_progress, where)
        end: dict[str, Any] = {"phase": outcome.phase}
        if outcome.kind != "done":
            end["reason"] = outcome.reason
        if outcome.kind == "failed":
            end |= {"can_pass": outcome.can_pass, "code": origin()["code"]}
        return self._state.updated(**end)

    def _listen(self) -> None:
        last = time.monotonic()
        while not self._ended.wait(LISTEN_SECONDS):
            with contextlib.suppress(OSError):  # a disk may be full or away for a while
                if self._is_cancelled():
                    self.stop.set(Stopped("cancelled", "cancelled"))
                if not self.processes.is_rank_zero:
                    continue
                if superseded := self._superseded():
                    self.stop.set(superseded)
                elif time.monotonic() - max(last, self._said) > BEAT_SECONDS:
                    last = time.monotonic()
                    if self._state.is_active:
                        self._write()

    def _still_owner(self) -> None:
        if self.processes.is_rank_zero and (superseded := self._superseded()):
            raise superseded

    def _superseded(self) -> Superseded | None:
        owner = self.folder.owner()
        return None if owner == self.number else Superseded(f"attempt {owner} owns the folder")

    def _write(self) -> None:
        with self._writing:
            self._beat += 1
            self._said = time.monotonic()
            if self.processes.is_rank_zero:
                self.folder.write_state(self._state.updated(heartbeat=self._beat))
