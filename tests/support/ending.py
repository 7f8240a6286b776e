"""Processes that end with the test that started them: what a test leaves that fails is not held against a later one."""

import contextlib
import os
import signal
import subprocess
from typing import Any, TypeVar

from tests.support.processes import children

P = TypeVar("P")
_STARTED: list[Any] = []


def ending_with_test(process: P) -> P:
    """Return the process, a subprocess.Popen or the like; if it still runs when its test ends, it is killed."""
    _STARTED.append(process)
    return process


def popen(command: list[str], **options: Any) -> "subprocess.Popen[str]":
    """Start a process as subprocess.Popen does, with pipes of text; it ends with its test."""
    return ending_with_test(subprocess.Popen(command, text=True, **options))


def end_all() -> None:
    """Kill what still runs of the started processes, with their children, and close their pipes."""
    while _STARTED:
        with _STARTED.pop() as process:
            if process.poll() is None:
                for pid in (*children(process.pid), process.pid):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
