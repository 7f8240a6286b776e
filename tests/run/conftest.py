"""Handlers of signals, which a job of a cluster sets, are as before after each test that asks for it."""

import signal
from collections.abc import Iterator

import pytest


@pytest.fixture
def _signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGUSR2, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
