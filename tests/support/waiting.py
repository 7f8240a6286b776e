"""Waiting for what other processes and threads do."""

import time
from collections.abc import Callable


def wait_for(what: Callable[[], bool], seconds: float = 60, pause: float = 0.05) -> None:
    """Until `what` is true, asked after every `pause`; AssertionError if that takes longer."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(pause)
