"""SLURM's own programs, run and read, and what the cluster's configuration says."""

import getpass
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

PATIENCE_SECONDS = 30.0
MAX_ARRAY_SIZE = 1001  # SLURM's own default


def is_here() -> bool:
    """Whether this machine can submit jobs."""
    return shutil.which("sbatch") is not None


def ask(*words: str) -> str | None:
    """What a program prints, whatever a user's variables would have it show; None where it is missing, fails, or gives
    no answer in time."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SQUEUE_", "SACCT_"))}
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_SECONDS, env=environment)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def tell(*words: str, input_text: str = "") -> str:
    """Run a program that is to do something, with that text to read; returns what it complains of, or ""."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_SECONDS, input=input_text)
    except OSError as error:
        return f"{words[0]}: {error.strerror}"
    except subprocess.TimeoutExpired:
        return f"{words[0]}: no answer in {PATIENCE_SECONDS:.0f} s"
    return "" if done.returncode == 0 else " ".join((done.stderr or done.stdout).split())


def user() -> str:
    return getpass.getuser()


def rows(text: str, names: Sequence[str]) -> list[dict[str, str]]:
    """Lines of fields with bars between them, under their names; lines of another number of fields are left out."""
    split = (line.split("|", len(names) - 1) for line in text.splitlines())
    return [dict(zip(names, fields, strict=True)) for fields in split if len(fields) == len(names)]


@dataclass(frozen=True)
class Site:
    """What a launch must know of the cluster: `settings` are those of `scontrol show config`, empty where it does not
    answer."""

    settings: dict[str, str]

    @classmethod
    def here(cls) -> "Site":
        text = ask("scontrol", "show", "config") or ""
        pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line)
        return cls({name.strip(): value.strip() for name, value in pairs})

    @property
    def answers(self) -> bool:
        return bool(self.settings)

    @property
    def most_in_array(self) -> int:
        """Runs in one array: MaxArraySize caps the index, and some sites' wrappers the count."""
        return max(1, int(self.settings.get("MaxArraySize", MAX_ARRAY_SIZE)) - 1)

    @property
    def version(self) -> str:
        return self.settings.get("SLURM_VERSION", "")

    @property
    def kill_seconds(self) -> int:
        """Between SIGTERM and SIGKILL."""
        found = re.match(r"\d+", self.settings.get("KillWait", ""))
        return int(found[0]) if found else 30
