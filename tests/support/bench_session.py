"""Benchmarks by a clock that only sleeping moves, so that times are known and nobody waits for them."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import forked

ROOT = Path(__file__).parents[2]
CONFTEST = """
import pytest

from bench.peaks import Peaks
from tests.support.bench_session import stop_time


def measure(peaks):
    peaks.macs_per_second = 3e10
    peaks.copies = dict.fromkeys(peaks.copies, 1e10)


Peaks.measure = measure
stop_time(pytest.MonkeyPatch())
"""


def stop_time(patch: pytest.MonkeyPatch) -> None:
    """Let a microsecond pass with each look at the clock, and what is slept."""
    now = 0.0

    def look() -> float:
        nonlocal now
        now += 1e-6
        return now

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    patch.setattr(time, "perf_counter", look)
    patch.setattr(time, "sleep", sleep)


def session(folder: Path, benchmarks: str, stored: Path) -> "subprocess.CompletedProcess[str]":
    """A session of these benchmarks in the folder, on a machine of known peaks, which is stored at the path."""
    folder.mkdir(exist_ok=True)
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_made_up.py").write_text(benchmarks)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "bench.conftest", "-c", "pyproject.toml", str(folder)]
    alone = {key: value for key, value in os.environ.items() if "XDIST" not in key}  # beside others nothing is timed
    return forked.run([*command, "--benchmark-only", f"--benchmark-json={stored}"], cwd=ROOT, env=alone)
