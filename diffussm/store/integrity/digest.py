"""The SHA-256 that a file states of itself: of the file with zeros in the place of the digest's own digits."""

import hashlib
import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

DIGITS = 64
SMALL = 1 << 20  # bytes that are hashed sooner than a thread is started
ZEROS = "0" * DIGITS
_STATED = re.compile(rb'"(?:diffussm\.)?sha256": ?"([0-9a-f]{64})"')


def place_of_digest(text: bytes) -> int | None:
    """Return where the digits of the last digest in a JSON text begin; None if it has none."""
    found = [match.start(1) for match in _STATED.finditer(text)]
    return found[-1] if found else None


def seal(text: bytes) -> bytes:
    """Return a JSON text whose digest is `ZEROS` with the digest filled in."""
    place = place_of_digest(text)
    assert place is not None
    return b"".join((text[:place], hashlib.sha256(text).hexdigest().encode(), text[place + DIGITS :]))


def is_intact(text: bytes) -> bool:
    """Return whether a JSON text has the digest that it states."""
    place = place_of_digest(text)
    if place is None:
        return False
    hasher = hashlib.sha256()
    for piece in without_digest(memoryview(text), 0, place):
        hasher.update(piece)
    return hasher.hexdigest().encode() == text[place : place + DIGITS]


def without_digest(piece: memoryview, start: int, place: int | None) -> Iterator[memoryview | bytes]:
    """Yield a piece of a file that begins at byte `start`, with zeros for the digits of the digest at `place`."""
    if place is None:
        yield piece
        return
    first = min(max(place - start, 0), len(piece))
    last = min(max(place + DIGITS - start, 0), len(piece))
    yield piece[:first]
    yield b"0" * (last - first)
    yield piece[last:]


class BackgroundHash:
    """The SHA-256 of pieces in the order in which they are given, computed in a thread beside the caller's work, except
    small ones that need not wait."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._thread = ThreadPoolExecutor(1)
        self._last: Future[None] | None = None

    def update(self, piece: memoryview | bytes) -> None:
        """Add a piece, which must not change any more."""
        if len(piece) < SMALL and (self._last is None or self._last.done()):
            self._hash.update(piece)
        else:
            self._last = self._thread.submit(self._hash.update, piece)

    def wait(self) -> None:
        """Return once all pieces are hashed, and may change."""
        if self._last:
            self._last.result()

    def hexdigest(self) -> str:
        """Return the digest once all pieces are hashed; no further piece can be added."""
        self.wait()
        self._thread.shutdown()
        return self._hash.hexdigest()
