"""Waiting for what other processes and threads do."""

import time
from collections.abc import Callable


def wait_for(condition: Callable[[], bool], seconds: float = 60, pause: float = 0.05) -> None:
    """Wait until `condition()` is true; raise AssertionError if that takes longer than `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(pause)
