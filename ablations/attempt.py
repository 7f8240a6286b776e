"""One attempt at the work of a folder: it owns the folder, says how far it is, and hears when to stop."""

import contextlib
import errno
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import torch

from diffussm.errors import UserError
from diffussm.source import origin
from diffussm.training.loop import Diverged, Preempted, Superseded
from diffussm.workdir import ACTIVE, WorkDir

SAY_SECONDS = 0.5  # no oftener: nobody reads faster
BEAT_SECONDS = 10.0
LISTEN_SECONDS = 1.0


class Attempt:
    """The attempt `number` at `work`, as a context: a state is written when it begins, when it ends and in between.

    `reason_to_stop` is asked once a second; what it answers, or what is given to `stop`, is in `stopping`, and the
    work that sees it there ends with Preempted.
    """

    def __init__(self, work: WorkDir, number: int, reason_to_stop: Callable[[], str]):
        self.folder, self.number = work, number
        self.stopping = ""
        self._reason_to_stop = reason_to_stop
        self._state: dict[str, Any] = {}
        self._said = 0.0
        self._beat = 0
        self._writing = threading.Lock()
        self._ended = threading.Event()
        self._listener = threading.Thread(target=self._listen, daemon=True)

    def stop(self, reason: str) -> None:
        self.stopping = self.stopping or reason

    def check(self) -> None:
        """Raise Preempted where the attempt was asked to stop, Superseded where another owns the folder."""
        if self.stopping:
            raise Preempted(self.stopping)
        self._still_owner()

    def say(self, **state: Any) -> None:
        """Write the state: at once when the phase changes, else no oftener than is worth reading.

        Raises Superseded, and writes nothing, where the folder belongs to another attempt.
        """
        is_new = state["phase"] != self._state.get("phase")
        self._state = state
        if is_new or time.monotonic() - self._said > SAY_SECONDS:
            self._still_owner()
            self._write()

    def __enter__(self) -> "Attempt":
        self.say(phase="start")
        self._listener.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._listener.join()
        if isinstance(error, Superseded) or self.folder.owner() != self.number:
            return  # the state belongs to another attempt now
        self._state = self._how_it_ended(error)
        self._write()

    def _how_it_ended(self, error: BaseException | None) -> dict[str, Any]:
        so_far = {name: value for name, value in self._state.items() if name != "phase"}
        if error is None:
            return {**so_far, "phase": "done"}
        if isinstance(error, Preempted | KeyboardInterrupt):
            phase = "cancelled" if self.stopping == "cancelled" else "stopped"
            return {**so_far, "phase": phase, "reason": self.stopping or "interrupted"}
        phase = "diverged" if isinstance(error, Diverged) else "failed"
        told = isinstance(error, UserError | Diverged)
        reason = str(error) if told else f"{type(error).__name__}: {error}"
        began = any(name in self._state for name in ("step", "sample"))
        return {
            **so_far,
            "phase": phase,
            "reason": " ".join(reason.split()),
            "can_pass": (is_out_of_memory(error) and not began) or is_of_the_disk(error),
            "code": origin()["code"],
        }

    def _listen(self) -> None:
        last = time.monotonic()
        while not self._ended.wait(LISTEN_SECONDS):
            with contextlib.suppress(OSError):  # a disk may be full or away for a while
                if reason := self._reason_to_stop():
                    self.stop(reason)
                if self.folder.owner() != self.number:
                    self.stop("superseded")
                elif time.monotonic() - max(last, self._said) > BEAT_SECONDS:
                    last = time.monotonic()
                    if self._state["phase"] in ACTIVE:
                        self._write()

    def _still_owner(self) -> None:
        if (owner := self.folder.owner()) != self.number:
            raise Superseded(f"attempt {owner} owns the folder")

    def _write(self) -> None:
        with self._writing:
            self._beat += 1
            self._said = time.monotonic()
            self.folder.write_state({**self._state, "attempt": self.number, "heartbeat": self._beat})


def is_of_the_disk(error: BaseException) -> bool:
    """Full, or gone for a while: it may have room, or be back, when the work is tried again."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE)


def is_out_of_memory(error: BaseException) -> bool:
    """At the start of work, something else may have held the memory."""
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    )
