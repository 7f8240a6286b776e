"""What ends work before its time: a request to stop, or another attempt that took the work over."""


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
