"""Progress of a long task on stderr: the count, the rate and the remaining time."""

import sys
import time
from typing import TextIO

from diffussm.tables import format_duration

TERMINAL_SECONDS, LOG_SECONDS = 0.5, 30.0  # between updates of a line on a terminal, and between lines of a log


class Progress:
    """Progress of `what` towards `total`; call it with the number that is done, and a note to show beside it.

    Rates are computed from the first call on. The total is printed once; one of 0, never.
    """

    def __init__(self, what: str, total: int, out: TextIO | None = None):
        self.what, self.total, self.out = what, total, out or sys.stderr
        self._started = self._printed = time.monotonic()
        self._initial: int | None = None  # the number that was done at the start
        self._line_is_open = self._ended = False

    def __call__(self, done: int, note: str = "") -> None:
        if not self.total or self._ended:
            return
        self._ended = done >= self.total
        now = time.monotonic()
        if self._initial is None:
            self._initial, self._started = done, now
        initial = self._initial
        terminal = self.out.isatty()
        if done < self.total and now - self._printed < (TERMINAL_SECONDS if terminal else LOG_SECONDS):
            return
        self._printed = now
        text = f"{self.what} {done:,} of {self.total:,}"
        if done > initial and now > self._started:
            rate = (done - initial) / (now - self._started)
            remaining = f", {format_duration((self.total - done) / rate)} left" if done < self.total else ""
            text += f", {f'{rate:,.0f}' if rate >= 100 else f'{rate:.3g}'} a second{remaining}"
        if note:
            text += f", {note}"
        self._line_is_open = terminal and done < self.total
        print(f"\r\033[K{text}" if terminal else text, end="" if self._line_is_open else "\n", file=self.out)
        self.out.flush()

    def end_line(self) -> None:
        """End a line that would be overwritten, before something else is printed."""
        if self._line_is_open:
            self._line_is_open = False
            print(file=self.out)
