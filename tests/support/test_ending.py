"""What a test leaves running when it fails is gone before the next one, without a warning that would fail that."""

import gc
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from diffussm.host.machine import process_start
from tests.support import ending, forked
from tests.support.processes import children
from tests.support.waiting import wait_for

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
STARTS_SLEEP = [sys.executable, "-c", f"import subprocess; subprocess.run({SLEEP})"]


@pytest.mark.parametrize(
    "start",
    [lambda: ending.popen(STARTS_SLEEP, stdout=subprocess.PIPE), lambda: forked.Program(STARTS_SLEEP, cwd=Path.cwd())],
    ids=["popen", "forked"],
)
def test_a_process_and_its_children_are_killed(start: Callable[[], Any]) -> None:
    pid = start().pid
    wait_for(lambda: children(pid))
    pids = [pid, *children(pid)]
    ending.end_all()
    wait_for(lambda: not any(map(process_start, pids)))
    gc.collect()  # a pipe or a folder that was left open would warn here, and warnings are errors


def test_what_has_ended_is_not_touched() -> None:
    process = forked.Program([sys.executable, "-c", "print('done')"], cwd=Path.cwd())
    assert process.communicate() == ("done\n", "")
    ending.end_all()
    assert process.returncode == 0
