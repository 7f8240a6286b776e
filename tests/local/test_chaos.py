"""Workers and launchers are killed at random: at the end every run is done once, with the results of a calm launch.

Two launchers work on one grid at once. They are killed by SIGKILL, which no process can handle.
"""

import contextlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import tests.support.tiny as tiny
from ablations import launch
from diffussm.host.machine import process_start
from diffussm.store.rundir import RunDir
from tests.support import forked
from tests.support.processes import children
from tests.support.waiting import wait_for

ROOT = Path(__file__).parents[2]
LAUNCHERS = 2
SLOTS = 2
PATIENCE = 600  # seconds within which something must happen, on however busy a machine


def write_grid(folder: Path, runs: int) -> Path:
    """A grid of tiny runs that differ in their learning rates."""
    lines = [f'{name} = "a test"' for name in ("claim", "source", "expected", "cost", "command")]
    lines += ['base = "digits"', "seeds = 1", "[axes.lr]"]
    lines += [f"rate-{number} = {{ training.lr = {1e-3 * (1 + number)} }}" for number in range(runs)]
    path = folder / "chaos.toml"
    path.write_text("\n".join(lines))
    return path


def arguments(grid: Path, runs: Path) -> list[str]:
    settings = [f"--set={key}={value}" for key, value in tiny.SETTINGS.items()]
    return ["--grid", str(grid), "--runs", str(runs), *settings]


def launcher(grid: Path, runs: Path) -> forked.Program:
    command = [sys.executable, "ablations/launch.py", *arguments(grid, runs), "--jobs", str(SLOTS)]
    return forked.Program(command, cwd=ROOT)


def launch_and_kill(grid: Path, runs: Path, kills: int, per_attempt: float, seed: int) -> tuple[int, str]:
    """Run two launchers until the grid is done, replacing any that dies, and kill up to `kills` processes meanwhile.

    Processes are killed at random moments, `per_attempt` for each attempt at a run. Returns how many were killed, and
    what the launchers printed. Workers of dead launchers end too.
    """
    rng = random.Random(seed)
    alive = [launcher(grid, runs) for _ in range(LAUNCHERS)]
    workers: dict[int, str | None] = {}  # when each process of a worker started
    killed, log = 0, ""
    attempts = 0

    def running() -> list[int]:
        return [pid for pid, start in workers.items() if start and process_start(pid) == start]

    deadline = time.monotonic() + PATIENCE
    while True:
        assert time.monotonic() < deadline, log
        time.sleep(rng.uniform(0, 0.3))
        workers |= {pid: process_start(pid) for process in alive for pid in children(process.pid)}
        ended = [process for process in alive if process.returncode is not None]
        is_done = any(process.returncode == 0 for process in ended)
        for process in alive if is_done else ended:
            log += "".join(process.communicate(PATIENCE))
            assert process.returncode in (0, 1, -signal.SIGKILL), log  # 1: one of its runs was killed twice
        if is_done:
            wait_for(lambda: not running(), PATIENCE)
            return killed, log
        for process in ended:
            alive.remove(process)
            alive.append(launcher(grid, runs))
        before, attempts = attempts, sum(RunDir(path.parent).owner() for path in runs.glob("*/config.json"))
        if attempts > before:
            deadline = time.monotonic() + PATIENCE
        if killed < min(kills, attempts * per_attempt):
            victims = running() + ([process.pid for process in alive] if rng.random() < 0.3 else [])
            if victims:
                with contextlib.suppress(ProcessLookupError):  # it has just ended
                    os.kill(rng.choice(victims), signal.SIGKILL)
                    killed += 1


def result(run: RunDir) -> dict[str, Any]:
    """What must not depend on kills: losses, records without times and provenance, kept weights, samples."""
    rows = [{name: value for name, value in row.items() if name != "seconds_per_step"} for row in run.loss_rows()]
    records = {}
    for path in sorted(run.path.glob("milestones/*/*/record.json")):
        record = json.loads(path.read_text())
        records[str(path.relative_to(run.path))] = [record[name] for name in ("run_id", "step", "key", "metrics")]
    files = [*run.path.glob("milestones/*/ema.safetensors"), *run.path.glob("milestones/*/*/samples.npz")]
    return {
        "rows": rows,
        "records": records,
        "files": {str(path.relative_to(run.path)): path.read_bytes() for path in files},
    }


def check(tmp_path: Path, count: int, kills: int, least: int, seed: int) -> None:
    """Compare `count` runs of a calm launch with those of launches in which at least `least` and at most `kills`
    processes are killed."""
    grid = write_grid(tmp_path, count)
    calm, wild = tmp_path / "calm", tmp_path / "wild"
    assert launch.main([*arguments(grid, calm), "--executor", "debug"]) == 0
    killed, log = launch_and_kill(grid, wild, kills, kills / count, seed)
    assert killed >= least, log
    failures = [line for line in log.splitlines() if ": failed: " in line]
    assert all("killed by SIGKILL" in line for line in failures), log
    assert "Traceback" not in log
    made = [RunDir(path.parent) for path in sorted(calm.glob("*/config.json"))]
    assert len(made) == count
    attempts = 0
    for expected in made:
        run = RunDir(wild / expected.run_id)
        assert result(run) == result(expected), log
        assert len(result(run)["records"]) == 3
        # Killed between its last weights and its final state, a training needs no further attempt. That the attempt
        # before was killed, its launcher may have reported later than that.
        state = run.state()
        assert state.phase in ("done", "train") or state.attempt < run.owner(), (state, log)
        attempts += run.owner()
    # One attempt for each run, one more for each killed worker, and up to SLOTS more for each killed launcher: nothing
    # was repeated without need, and no launch took over a run that the other was working on.
    assert attempts <= count + SLOTS * killed


def test_processes_killed_at_random(tmp_path: Path) -> None:
    check(tmp_path, count=3, kills=3, least=1, seed=0)


@pytest.mark.slow
def test_sixty_runs_and_forty_kills(tmp_path: Path) -> None:
    check(tmp_path, count=60, kills=44, least=40, seed=1)
