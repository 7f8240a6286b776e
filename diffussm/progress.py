"""How far a long piece of work is, on stderr: so many of so many, how fast, about how long still."""

import sys
import time
from typing import TextIO

from diffussm.tables import duration

SECONDS = 30.0  # between lines where nobody watches


class Progress:
    """`what` of `total` things; call it with the number that is done, and a note to show beside it. Rates are from the
    first call on; of nothing (total 0) nothing is said."""

    def __init__(self, what: str, total: int, out: TextIO | None = None):
        self.what, self.total, self.out = what, total, out or sys.stderr
        self._began = self._said = time.monotonic()
        self._first: int | None = None  # done when it began
        self._line_is_open = False

    def __call__(self, done: int, note: str = "") -> None:
        if not self.total:
            return
        now = time.monotonic()
        if self._first is None:
            self._first, self._began = done, now
        first = self._first
        watched = self.out.isatty()
        if done < self.total and now - self._said < (0.5 if watched else SECONDS):
            return
        self._said = now
        text = f"{self.what} {done:,} of {self.total:,}"
        if done > first and now > self._began:
            rate = (done - first) / (now - self._began)
            left = f", {duration((self.total - done) / rate)} left" if done < self.total else ""
            text += f", {rate:.3g} a second{left}"
        if note:
            text += f", {note}"
        self._line_is_open = watched and done < self.total
        print(f"\r\033[K{text}" if watched else text, end="" if self._line_is_open else "\n", file=self.out)
        self.out.flush()

    def end_line(self) -> None:
        """End a line that is still to be written over: something else will be printed."""
        if self._line_is_open:
            self._line_is_open = False
            print(file=self.out)
