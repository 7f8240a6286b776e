"""Workers and launchers are killed at random: at the end every run is done once, with the results of a calm launch.

Two launchers work on one grid at once. They are killed by SIGKILL, which no process can handle.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import tests.support.tiny as tiny
from ablations import launch
from diffussm.store.rundir import RunDir

ROOT = Path(__file__).parents[2]
LAUNCHERS = 2
SLOTS = 2


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


def launcher(grid: Path, runs: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "ablations/launch.py", *arguments(grid, runs), "--jobs", str(SLOTS)]
    with (runs.parent / f"{runs.name}.log").open("ab") as log:
        return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)


def workers(launchers: set[int]) -> list[int]:
    """PIDs of the running workers of these launchers, of dead launchers too."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode().split("\0")
        except OSError:
            continue
        if "ablations.local.worker" in words and int(words[words.index("--launcher") + 1]) in launchers:
            found.append(int(path.parent.name))
    return found


def launch_and_kill(grid: Path, runs: Path, kills: int, seed: int) -> int:
    """Run two launchers until the grid is done, replacing any that dies, and kill up to `kills` processes meanwhile.

    Returns how many processes were killed.
    """
    rng = random.Random(seed)
    alive = [launcher(grid, runs) for _ in range(LAUNCHERS)]
    pids = {process.pid for process in alive}
    killed = 0
    deadline = time.monotonic() + 900
    while True:
        assert time.monotonic() < deadline
        time.sleep(rng.uniform(0.2, 2.0))
        ended = [process for process in alive if process.poll() is not None]
        if any(process.returncode == 0 for process in ended):
            for process in alive:
                assert process.wait(120) in (0, -signal.SIGKILL)
            return killed
        for process in ended:  # it was killed, or one of its runs was killed twice
            alive.remove(process)
            alive.append(launcher(grid, runs))
            pids.add(alive[-1].pid)
        if killed < kills:
            victims = workers(pids)
            victims += [process.pid for process in alive] if rng.random() < 0.3 else []
            if victims:
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
    killed = launch_and_kill(grid, wild, kills, seed)
    log = (tmp_path / "wild.log").read_text()
    assert killed >= least, log
    made = [RunDir(path.parent) for path in sorted(calm.glob("*/config.json"))]
    assert len(made) == count
    attempts = 0
    for expected in made:
        run = RunDir(wild / expected.run_id)
        assert result(run) == result(expected), log
        assert len(result(run)["records"]) == 3
        assert run.state()["phase"] == "done"
        attempts += run.owner()
    # One attempt for each run, one more for each killed worker, and up to SLOTS more for each killed launcher: nothing
    # was repeated without need, and no launch took over a run that the other was working on.
    assert attempts <= count + SLOTS * killed
    assert not workers({0}), log


def test_processes_killed_at_random(tmp_path: Path) -> None:
    check(tmp_path, count=3, kills=3, least=1, seed=0)


@pytest.mark.slow
def test_sixty_runs_and_forty_kills(tmp_path: Path) -> None:
    check(tmp_path, count=60, kills=44, least=40, seed=1)
