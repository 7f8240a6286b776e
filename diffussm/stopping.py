"""What ends work early: a request to stop, or another attempt that took over the work.

The outermost process creates one StopRequest. Signal handlers and monitors set it; training and sampling poll it
between steps.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


class Stopped(Exception):
    """Work was asked to stop: what it did is kept, and the next attempt continues from there.

    `phase` is how the attempt ends: stopped, cancelled, preempted, timed out or superseded. All processes that share
    the work stop with it.
    """

    def __init__(self, reason: str, phase: str = "stopped", step: int | None = None):
        super().__init__(reason, phase, step)
        self.reason, self.phase, self.step = reason, phase, step

    def at(self, step: int) -> "Stopped":
        return type(self)(self.reason, self.phase, step)

    def __str__(self) -> str:
        return self.reason if self.step is None else f"{self.reason} at step {self.step}"


class Superseded(Stopped):
    """Another attempt owns the folder now; nothing more may be written to it."""

    def __init__(self, reason: str, phase: str = "superseded", step: int | None = None):
        super().__init__(reason, phase, step)


class StopRequest:
    """A request to stop early; once it is set, later requests are ignored.

    A request with a `parent` is also set when the parent is: a signal to the process stops its attempt, while
    cancelling the run leaves the process running.
    """

    def __init__(self, parent: "StopRequest | None" = None):
        self._parent = parent
        self._stopped: Stopped | None = None

    @property
    def stopped(self) -> Stopped | None:
        """The reason to stop; None before the request."""
        return self._stopped or (self._parent.stopped if self._parent else None)

    def set(self, stopped: Stopped) -> None:
        """Set the request unless it is set. Signal handlers and other threads may call this."""
        if self.stopped is None:
            self._stopped = stopped

    def check(self) -> None:
        """Raise the reason to stop if the request is set."""
        if stopped := self.stopped:
            raise stopped

    @contextmanager
    def set_on(self, *signals: signal.Signals) -> Iterator[None]:
        """Let these signals set the request inside the context."""
        before = {number: signal.signal(number, lambda number, _: self.set(stopped_by(number))) for number in signals}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def stopped_by(number: int) -> Stopped:
    """Return what a signal requests: SIGUSR2 is a preemption."""
    name = signal.Signals(number).name
    return Stopped(name, "preempted" if name == "SIGUSR2" else "stopped")
