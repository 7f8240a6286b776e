"""What ends work before its time: a request to stop, or another attempt that took the work over.

The outermost process makes one StopRequest. Whoever hears a signal or an order sets it, and training and sampling poll
it, between steps.
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
    """A request that the work end early; the first one that is made holds.

    A request `within` another one is made by that one too: what stops a process stops the attempt that it makes, but
    the order to cancel one run does not stop the process.
    """

    def __init__(self, within: "StopRequest | None" = None):
        self._within = within
        self._stopped: Stopped | None = None

    @property
    def stopped(self) -> Stopped | None:
        """What was requested; None before."""
        return self._stopped or (self._within.stopped if self._within else None)

    def set(self, stopped: Stopped) -> None:
        """Make the request, unless one was made before. Signal handlers and other threads may do so."""
        if self.stopped is None:
            self._stopped = stopped

    def check(self) -> None:
        """Raise what was requested, if anything was."""
        if stopped := self.stopped:
            raise stopped

    @contextmanager
    def set_on(self, *signals: signal.Signals) -> Iterator[None]:
        """Let these signals make the request inside the context."""
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
