"""Grids launched on a test's cluster as a user does it: by commands, in folders of the test's own."""

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

from ablations import manage
from diffussm.run.claim import assume_owner_dead
from diffussm.run.runner import TaskRunner
from diffussm.run.tasks import is_done
from diffussm.store import records
from diffussm.store.rundir import RunDir
from tests.slurm.cluster import Cluster
from tests.support import tiny

ROOT = Path(__file__).parents[2]
ARM = "M = 2, P = 1"  # of `one`
BRIEF: dict[str, Any] = {"training__steps": 2, "training__milestones": [2], "evaluation__samples": 4}


class Runs:
    """The run folders below `path`, and the jobs of `cluster` that work on them."""

    def __init__(self, cluster: Cluster, path: Path):
        self.cluster, self.path = cluster, path

    def tried(
        self, script: str, *arguments: str, env: dict[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        command: list[str | Path] = [sys.executable, ROOT / script, *arguments, "--runs", self.path]
        environment = {**self.cluster.env, **(env or {})}
        return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)

    def output_of(self, script: str, *arguments: str) -> str:
        """What a script prints; it must succeed."""
        done = self.tried(script, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def grid(self, *more: str, **changes: Any) -> list[str]:
        """The arguments for a tiny grid of three arms and a seed; changes as section__field=value."""
        named = {key.replace("__", "."): value for key, value in changes.items()}
        settings = {**tiny.SETTINGS, **named}
        del settings["model.hourglass"]  # the grid's arms set it
        given = [word for key, value in settings.items() for word in ("--set", f"{key}={_toml(value)}")]
        return ["--grid", "hourglass_vs_patch", "--seeds", "1", *given, *more]

    def launch(self, *more: str, profile: str = "cpu", **changes: Any) -> list[str]:
        """Submit the grid; returns the ids of the jobs and arrays."""
        arguments = self.grid("--executor", "slurm", "--profile", profile, *more, **changes)
        output = self.output_of("ablations/launch.py", *arguments)
        return [line.split()[2].rstrip(":") for line in output.splitlines() if line.startswith("Submitted job")]

    def one(self, *more: str, **changes: Any) -> tuple[str, RunDir]:
        """Submit one run; returns the job of its training, and its folder."""
        job, *_ = self.launch("--only", "M = 2*", *more, **changes)
        (run,) = [RunDir(path.parent) for path in self.path.glob("*m2p1*/config.json")]
        return job, run

    def states(self) -> dict[str, dict[str, Any]]:
        """What `manage.py status` prints of each arm; called in this process, as a new one would take half a second."""
        printed = io.StringIO()
        with mock.patch.dict(os.environ, self.cluster.env, clear=True), contextlib.redirect_stdout(printed):
            assert manage.main(["status", "--json", "--runs", str(self.path)]) == 0
        return {row["arm"]: row for row in json.loads(printed.getvalue())["runs"]}

    def state(self, arm: str = ARM) -> str:
        """The state of the run that `one` launched, or of another arm."""
        return str(self.states()[arm]["state"])

    def wait_for_state(self, state: str, seconds: float = 300, arm: str = ARM) -> None:
        """Wait for a state, which is queried once a second; for `done`, the folder is checked before that."""
        run = RunDir(self.path / self.states()[arm]["run"])
        try:
            if state == "done":
                self.cluster.wait_for(lambda: is_done(run), seconds)
            self.cluster.wait_for(lambda: self.state(arm) == state, seconds, pause=1)
        except AssertionError as error:
            status = self.output_of("ablations/manage.py", "status")
            raise AssertionError(f"{error}\n{status}") from None

    def watch(self) -> str:
        """Run `manage.py watch` until it ends; returns what it prints."""
        return self.output_of("ablations/manage.py", "watch", "--interval", "2")

    def folders(self) -> list[RunDir]:
        return [RunDir(path.parent) for path in sorted(self.path.glob("*/config.json"))]

    def results(self) -> dict[str, Any]:
        """The records and losses, which must not depend on where or how often the runs were started."""
        return {run.run_id: results_of(run) for run in self.folders()}


def results_of(run: RunDir) -> tuple[Any, Any]:
    found = [records.read(path) for path in sorted(run.path.glob("milestones/*/*/record.json"))]
    measured = [(r.step, r.key.digest, r.metrics) for r in found if r]
    return measured, [{k: v for k, v in row.items() if k != "seconds_per_step"} for row in run.loss_rows()]


def undisturbed(run: RunDir, folder: Path) -> tuple[Any, Any]:
    """What the same run gives in this process, alone."""
    copy = RunDir.create(folder, run.config())
    copy.add_requests(run.requests())
    TaskRunner(copy.path).run_pending(assume_owner_dead)
    return results_of(copy)


def local_results(runs: Path, *words: str) -> dict[str, Any]:
    """The results of all runs by the local executor."""
    command: list[str | Path] = [sys.executable, ROOT / "ablations/launch.py", *words, "--runs", runs]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return {path.parent.name: results_of(RunDir(path.parent)) for path in sorted(runs.glob("*/config.json"))}


def _toml(value: Any) -> str:
    return json.dumps(value) if isinstance(value, list | bool) else str(value)
