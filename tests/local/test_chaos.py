"""Workers and launchers are killed at random: at the end every run is done, once, and as if nobody had been killed.

Two launchers work on one grid at once. The kills are SIGKILL, which nobody can prepare for.
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
    """Living workers of these launchers, dead launchers among them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode().split("\0")
        except OSError:
            continue
        if "ablations.local.worker" in words and int(words[words.index("--launcher") + 1]) in launchers:
            found.append(int(path.parent.name))
    return found


def torment(grid: Path, runs: Path, kills: int, seed: int) -> int:
    """Launch twice at once, and again whenever a launcher is dead, until the grid is done; kill up to `kills` processes
    on the way. Returns how many were killed."""
    chance = random.Random(seed)
    alive = [launcher(grid, runs) for _ in range(LAUNCHERS)]
    ever = {process.pid for process in alive}
    killed = 0
    deadline = time.monotonic() + 900
    while True:
        assert time.monotonic() < deadline
        time.sleep(chance.uniform(0.2, 2.0))
        ended = [process for process in alive if process.poll() is not None]
        if any(process.returncode == 0 for process in ended):
            for process in alive:
                assert process.wait(120) in (0, -signal.SIGKILL)
            return killed
        for process in ended:  # killed, or a run was killed twice under it
            alive.remove(process)
            alive.append(launcher(grid, runs))
            ever.add(alive[-1].pid)
        if killed < kills:
            victims = workers(ever)
            victims += [process.pid for process in alive] if chance.random() < 0.3 else []
            if victims:
                os.kill(chance.choice(victims), signal.SIGKILL)
                killed += 1


def outcome(run: RunDir) -> dict[str, Any]:
    """What must be equal: records without times and provenance, kept weights, samples, losses."""
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
    """`count` runs; the torment ends after `kills` kills, or before if the grid is done, but not before `least`."""
    grid = write_grid(tmp_path, count)
    calm, wild = tmp_path / "calm", tmp_path / "wild"
    assert launch.main([*arguments(grid, calm), "--executor", "debug"]) == 0
    killed = torment(grid, wild, kills, seed)
    log = (tmp_path / "wild.log").read_text()
    assert killed >= least, log
    made = [RunDir(path.parent) for path in sorted(calm.glob("*/config.json"))]
    assert len(made) == count
    attempts = 0
    for expected in made:
        run = RunDir(wild / expected.run_id)
        assert outcome(run) == outcome(expected), log
        assert len(outcome(run)["records"]) == 3
        assert run.state()["phase"] == "done"
        attempts += run.owner()
    # One attempt each, one more for a killed worker, SLOTS more for a killed launcher: nothing was done twice for
    # nothing, and no launch took from the other what it was at.
    assert attempts <= count + SLOTS * killed
    assert not workers({0}), log


def test_killed_at_random(tmp_path: Path) -> None:
    check(tmp_path, count=3, kills=3, least=1, seed=0)


@pytest.mark.slow
def test_sixty_runs_and_forty_kills(tmp_path: Path) -> None:
    check(tmp_path, count=60, kills=44, least=40, seed=1)
