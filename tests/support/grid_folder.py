"""A user's folder with a grid, launched and managed by real commands, and an external mixer with faults."""

import subprocess
import sys
from pathlib import Path

import tests.support.tiny as tiny
from diffussm.store.rundir import RunDir
from tests.support import forked
from tests.support.grid_file import HEADER

ROOT = Path(__file__).parents[2]
SETTINGS = {key: value for key, value in tiny.SETTINGS.items() if key != "model.state"}
MIXER = """
import os, signal
from pathlib import Path
from torch import nn


class Mixer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.project = nn.Linear(config.width, 2 * config.width)

    def forward(self, u):
        {fault}
        return self.project(u)

    @staticmethod
    def macs(config):
        return 2 * config.length * config.width**2
"""
ONCE = "fail = not Path('{mark}').exists(); Path('{mark}').touch()\n        if fail: "


class Folder:
    """A user's folder with a grid of runs of one external mixer."""

    def __init__(self, path: Path, root: Path = ROOT, **settings: object):
        self.path, self.root, self.runs = path, root, path / "runs"
        self.settings = [f"--set={key}={value}" for key, value in {**SETTINGS, **settings}.items()]

    def mixer(self, fault: str = "pass") -> None:
        fault = fault.replace("ONCE ", ONCE.format(mark=self.path / "mark"))
        (self.path / "my.py").write_text(MIXER.format(fault=fault))

    def grid(self, levels: str, name: str = "mine") -> None:
        (self.path / f"{name}.toml").write_text(f'{HEADER}base = "digits"\nseeds = 1\n[axes.level]\n{levels}\n')

    def command(self, *more: str, grid: str = "mine") -> list[str]:
        script = str(self.root / "ablations" / "launch.py")
        return [sys.executable, script, "--grid", f"{grid}.toml", *self.settings, *more]

    def launch(self, *more: str, grid: str = "mine") -> subprocess.CompletedProcess[str]:
        return forked.run(self.command(*more, grid=grid), cwd=self.path)

    def start(self, *more: str) -> forked.Program:
        return forked.Program(self.command(*more), cwd=self.path)

    def manage(self, *words: str) -> str:
        done = forked.run([sys.executable, str(self.root / "ablations" / "manage.py"), *words], cwd=self.path)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def all(self) -> list[RunDir]:
        return [RunDir(path.parent) for path in sorted(self.runs.glob("*/config.json"))]

    def one(self) -> RunDir:
        (run,) = self.all()
        return run
