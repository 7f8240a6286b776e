"""Benchmarks are timed by `diffussm.timing`; a `--benchmark-only` session is kept in runs/bench with its machine."""

import time
from pathlib import Path
from typing import Any

import pytest

from diffussm import timing
from diffussm.machine import keep_freed_memory

STORE = Path(__file__).parents[1] / "runs" / "bench"


def pytest_configure(config: pytest.Config) -> None:
    config.option.benchmark_timer = "diffussm.timing.clock"
    keep_freed_memory()  # as the workers of a launch do
    if config.option.benchmark_only and not config.option.benchmark_json:
        STORE.mkdir(parents=True, exist_ok=True)
        config.option.benchmark_json = str(STORE / f"{time.strftime('%Y%m%d-%H%M%S')}.json")


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    machine_info.clear()
    machine_info.update(timing.machine_card())
