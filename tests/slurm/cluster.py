"""A SLURM cluster that `slurm/local_cluster` brings up, as tests use it."""

import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.support.waiting import wait_for

COMMANDS = Path(__file__).parents[2] / "slurm" / "local_cluster"


class Cluster:
    """What lies in `root`. `env` is all that a client of it needs; `knobs` are those of `up`, without CLUSTER_."""

    def __init__(self, root: Path, **knobs: str | int) -> None:
        self.root = root
        self.slurm_conf = f"SLURM_CONF={root}/etc/slurm.conf"
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
        self.env |= {f"CLUSTER_{knob.upper()}": str(value) for knob, value in knobs.items()}
        self.env |= {"CLUSTER_ROOT": str(root), "SLURM_CONF": f"{root}/etc/slurm.conf"}

    def tried(self, *command: object, env: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
        """A program of SLURM, run from the cluster's folder; with `env` on top of the cluster's."""
        arguments = [str(word) for word in command]
        return subprocess.run(arguments, env={**self.env, **(env or {})}, cwd="/", capture_output=True, text=True)

    def run(self, *command: object) -> str:
        """What a program of SLURM prints; AssertionError with what it says if it fails."""
        done = self.tried(*command)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def command(self, name: str, *arguments: object) -> str:
        """What `up`, `down`, `status` or `node` prints."""
        return self.run(COMMANDS / name, *arguments)

    def node(self, action: str, number: int) -> str:
        return self.command("node", action, number).strip()

    def submit(self, script: str, *options: str) -> str:
        """The id of a job of that shell script, its output thrown away unless options say where it goes."""
        return self.run("sbatch", "--parsable", "--output=/dev/null", *options, f"--wrap={script}").strip()

    def jobs(self) -> dict[str, str]:
        """State by id of all that waits or runs, each element of an array for itself."""
        lines = self.run("squeue", "--noheader", "--array", "--format=%i %T").splitlines()
        return dict(line.split() for line in lines)

    def idle(self) -> bool:
        """No node does anything or is away."""
        states = self.run("sinfo", "--noheader", "--Node", "--format=%T").split()
        return set(states) == {"idle"}

    def wait_for(self, what: Callable[[], bool], seconds: float = 120, pause: float = 0.2) -> None:
        try:
            wait_for(what, seconds, pause)
        except AssertionError:
            raise AssertionError(self.run("squeue") + self.run("sinfo")) from None

    def processes(self) -> set[int]:
        """Whatever carries this cluster's SLURM_CONF: its daemons, their jobs, and clients that run now."""
        found = set()
        for environment in Path("/proc").glob("[0-9]*/environ"):
            try:
                settings = environment.read_bytes().split(b"\0")
            except OSError:
                continue
            if self.slurm_conf.encode() in settings:
                found.add(int(environment.parent.name))
        return found


OwnCluster = Callable[..., Cluster]  # called with knobs, a cluster of the test's own
