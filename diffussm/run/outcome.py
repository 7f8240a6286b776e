"""How an attempt at a task ended, and what each exception means for it. No torch."""

import contextlib
import errno
import os
import sys
import traceback
from dataclasses import dataclass
from typing import Literal

from diffussm.data.prepared.stage import StageError
from diffussm.errors import Diverged, NotFinite, UserError, one_line, printable
from diffussm.stopping import Stopped
from diffussm.store.integrity.stamp import DamagedFile

Kind = Literal["done", "failed", "stopped", "cancelled", "superseded"]

_KINDS: dict[str, Kind] = {
    "done": "done",
    "failed": "failed",
    "diverged": "failed",
    "stopped": "stopped",
    "preempted": "stopped",
    "timed out": "stopped",
    "cancelled": "cancelled",
    "superseded": "superseded",
}
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE)
_LOST_PEER = ("closed by peer", "reset by peer")
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended; if superseded, the folder and its state belong to another attempt.

    `phase` is that of the attempt's final state. `is_transient`: a retry of the same task may succeed; with
    `awaits_disk`, once the disk has room, or can be written to again.
    """

    phase: str
    reason: str = ""
    log: str = ""
    is_transient: bool = False
    awaits_disk: bool = False

    @property
    def kind(self) -> Kind:
        """What the phase means to a scheduler of tasks."""
        return _KINDS[self.phase]


def outcome_of(error: BaseException | None, has_progress: bool = False, where: str = "") -> Outcome:
    """Return the outcome of an attempt that ended with `error`; None is success.

    `has_progress`: it had made a first step or sample. `where` is prepended to the reason of an unexpected error.
    """
    match error:
        case None:
            return Outcome("done")
        case Stopped():
            return Outcome(error.phase, error.reason)
        case KeyboardInterrupt():
            return Outcome("stopped", "interrupted")
        case UserError() | Diverged() | NotFinite():
            reason = str(error)
        case _:
            message = one_line(error) if isinstance(error, OSError) else error
            reason = f"{where}{type(error).__name__}: {message}"
    phase = "diverged" if isinstance(error, Diverged) else "failed"
    of_disk = is_of_disk(error)
    transient = of_disk or _is_transient(error, has_progress)
    return Outcome(phase, " ".join(reason.split()), is_transient=transient, awaits_disk=of_disk)


def is_of_disk(error: BaseException) -> bool:
    """Return whether the cause is the disk: full, read-only or unavailable; it is not the work's own fault."""
    if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
        return True
    if isinstance(error, RuntimeError) and any(os.strerror(code) in str(error) for code in _DISK_ERRORS):
        return True  # of a library that passes on the words alone
    return error.__cause__ is not None and is_of_disk(error.__cause__)


def print_failure(error: Exception) -> None:
    """Print to stderr: a mistake of the user's, numbers that are not finite or an error of the disk in one line, any
    other error with its traceback. A log on that disk may not take it."""
    with contextlib.suppress(OSError):
        if isinstance(error, UserError | Diverged | NotFinite):
            print(f"error: {printable(str(error))}", file=sys.stderr)
        elif isinstance(error, OSError) and is_of_disk(error):
            print(f"error: {one_line(error)}", file=sys.stderr)
        else:
            traceback.print_exception(error)
        sys.stderr.flush()


def _is_transient(error: BaseException, has_progress: bool) -> bool:
    """Return whether a retry may succeed: a damaged file was set aside, this machine has no room for a copy of the
    data, a peer was killed, or memory ran out at the start, when something else may have held it."""
    if isinstance(error, DamagedFile | StageError):
        return True
    if isinstance(error, RuntimeError) and any(text in str(error) for text in _LOST_PEER):
        return True
    return _is_out_of_memory(error) and not has_progress


def _is_out_of_memory(error: BaseException) -> bool:
    """Return whether the error is Python's, or torch's on CPU or GPU, for too little memory."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _OUT_OF_MEMORY)
