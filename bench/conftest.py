"""Hooks that time benchmarks by `diffussm.timing` and store a `--benchmark-only` session, with its machine, in
runs/bench."""

import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.measure import MISSING, SKIPPED, Bench, Stopwatch
from bench.peaks import Peaks
from bench.scale import scale
from diffussm import timing
from diffussm.host.machine import keep_freed_memory, usable_cores

STORE = Path(__file__).parents[1] / "runs" / "bench"
SCALES = ("small", "paper")
STOPWATCH, WITHOUT_TIME = pytest.StashKey[Stopwatch](), pytest.StashKey[list[dict[str, Any]]]()
PEAKS, CLOCKS = pytest.StashKey[Callable[[], Peaks]](), pytest.StashKey[dict[str, Any]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--scale", choices=SCALES, default=SCALES[0], help="two cores in minutes, or the paper's shapes")


def pytest_configure(config: pytest.Config) -> None:
    config.option.benchmark_timer = "diffussm.timing.synchronised_time"
    keep_freed_memory()  # as the workers of a launch do
    chosen = scale("tiny" if config.option.benchmark_disable else config.option.scale)
    torch.set_num_threads(1 if chosen.tiny else usable_cores())
    peaks: Callable[[], Peaks] = cache(lambda: Peaks(chosen.device))
    config.stash[PEAKS] = peaks
    config.stash[STOPWATCH] = Stopwatch(chosen, peaks)
    config.stash[WITHOUT_TIME] = []
    config.stash[CLOCKS] = timing.clock_rates()
    if config.option.benchmark_only and not config.option.benchmark_json:
        STORE.mkdir(parents=True, exist_ok=True)
        config.option.benchmark_json = str(STORE / f"{time.strftime('%Y%m%d-%H%M%S')}.json")


@pytest.fixture
def bench(benchmark: Any, pytestconfig: pytest.Config) -> Bench:
    return Bench(benchmark, pytestconfig.stash[STOPWATCH], pytestconfig.stash[PEAKS])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Function, call: pytest.CallInfo[None]) -> Any:
    report = yield
    benchmark = getattr(item, "funcargs", {}).get("benchmark")
    if benchmark is not None and call.excinfo and call.when != "teardown":
        message = (str(call.excinfo.value) or call.excinfo.typename).splitlines()[0]
        status, reason = "failed", message
        if report.skipped:
            status = "missing" if message.startswith(MISSING) else "skipped"
            reason = message.removeprefix(MISSING).removeprefix(SKIPPED)
        identity = {"group": benchmark.group or item.path.stem, "name": benchmark.name}
        item.config.stash[WITHOUT_TIME].append({**identity, "status": status, "reason": reason})
    return report


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    machine_info.clear()
    machine_info.update(timing.machine_card())
    machine_info["clocks"] = {"start": config.stash[CLOCKS], "end": machine_info["clocks"]}


def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    output_json["scale"] = config.stash[STOPWATCH].scale.name
    peaks = config.stash[PEAKS]()
    peaks.measure()  # again: shares are relative to the highest peak of the session
    for one in output_json["benchmarks"]:
        info = one["extra_info"]
        roofline = peaks.roofline(one["stats"]["data"], info["macs"], info["bytes"])
        info["roofline"] = roofline and roofline._asdict()
    output_json["peaks"] = peaks.as_dict()
    output_json["without_time"] = config.stash[WITHOUT_TIME]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Store a session in which no benchmark was timed; pytest-benchmark stores any other."""
    config = session.config
    kept = config._benchmarksession  # type: ignore[attr-defined]
    if not config.option.benchmark_only or kept.benchmarks or not config.stash[WITHOUT_TIME]:
        return
    hook = config.hook
    content = hook.pytest_benchmark_generate_json(
        config=config,
        benchmarks=[],
        include_data=True,
        machine_info=kept.get_machine_info(),
        commit_info=hook.pytest_benchmark_generate_commit_info(config=config),
    )
    hook.pytest_benchmark_update_json(config=config, benchmarks=[], output_json=content)
    kept.save_json(content)
