"""A folder of work, and the handlers of signals, which a job of a cluster sets, put back after a test."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from diffussm.store.workdir import WorkDir


@pytest.fixture
def _signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGUSR2, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def work(tmp_path: Path) -> WorkDir:
    folder = WorkDir(tmp_path / "work")
    folder.path.mkdir()
    return folder
