"""Runs SLURM's programs and parses their output, among it the configuration of the cluster."""

import getpass
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

TIMEOUT_SECONDS = 30.0
MAX_ARRAY_SIZE = 1001  # SLURM's own default


def has_sbatch() -> bool:
    """Return whether sbatch is installed, so that jobs can be submitted."""
    return shutil.which("sbatch") is not None


def query(*command: str) -> str | None:
    """Return the output of a program that reports something, without the user's SQUEUE_ and SACCT_ variables; None if
    it is missing, fails, or times out."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SQUEUE_", "SACCT_"))}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, env=environment)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def execute(*command: str, input_text: str = "") -> str:
    """Run a program that changes something, with `input_text` as its stdin; returns its error message, or ""."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, input=input_text)
    except OSError as error:
        return f"{command[0]}: {error.strerror}"
    except subprocess.TimeoutExpired:
        return f"{command[0]}: timed out after {TIMEOUT_SECONDS:.0f} s"
    return "" if done.returncode == 0 else " ".join((done.stderr or done.stdout).split())


def user() -> str:
    return getpass.getuser()


def parse_rows(text: str, names: Sequence[str]) -> list[dict[str, str]]:
    """Parse lines of fields separated by bars into a dictionary each; lines with another number of fields are
    skipped."""
    split = (line.split("|", len(names) - 1) for line in text.splitlines())
    return [dict(zip(names, fields, strict=True)) for fields in split if len(fields) == len(names)]


@dataclass(frozen=True)
class ClusterConfig:
    """The configuration of the cluster: `settings` are those of `scontrol show config`, empty if it does not
    answer."""

    settings: dict[str, str]

    @classmethod
    def current(cls) -> "ClusterConfig":
        """Return the configuration of the cluster that this process runs on."""
        text = query("scontrol", "show", "config") or ""
        pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line)
        return cls({name.strip(): value.strip() for name, value in pairs})

    @property
    def is_reachable(self) -> bool:
        return bool(self.settings)

    @property
    def max_array_size(self) -> int:
        """The number of runs in an array: MaxArraySize limits the index, and on some sites a wrapper limits the
        number."""
        return max(1, int(self.settings.get("MaxArraySize", MAX_ARRAY_SIZE)) - 1)

    @property
    def version(self) -> str:
        return self.settings.get("SLURM_VERSION", "")

    @property
    def kill_seconds(self) -> int:
        """The seconds between SIGTERM and SIGKILL."""
        found = re.match(r"\d+", self.settings.get("KillWait", ""))
        return int(found[0]) if found else 30
