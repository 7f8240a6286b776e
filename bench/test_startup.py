"""Start-up: imports, help, and the first forward pass of a new process."""

import subprocess
import sys
from pathlib import Path

import pytest

from bench.first_forward import first_forward
from bench.measure import Bench, Contender, Timed, missing
from diffussm.ssm.backends import PORTABLE
from diffussm.ssm.selection import unavailable_reason

CLONE = Path(__file__).parents[1]
COMMANDS = {
    "import diffussm": ["-c", "import diffussm"],
    "diffussm --help": ["-m", "diffussm", "--help"],
    "launch.py --help": ["ablations/launch.py", "--help"],
}
ROUNDS = 6  # new processes for each backend
SECONDS = 30.0  # limit for the rounds on two cores


def python(*arguments: str) -> str:
    command = [sys.executable, *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=CLONE).stdout


@pytest.mark.parametrize("what", COMMANDS)
def test_start(bench: Bench, what: str) -> None:
    """Time a whole process."""
    bench.describe("startup", "start of a process", what, dtype="", device="cpu")
    arguments = COMMANDS[what]

    def check() -> None:
        assert ("--help" in what) == ("usage" in python(*arguments).lower()), "help"

    found = bench.stopwatch.in_turns({what: Contender(lambda: python(*arguments), check)}, SECONDS)[what]
    if isinstance(found, Timed):
        found = found._replace(peak_memory=None)  # that of another process is unknown
    bench.record({what: found}, what)


@pytest.mark.parametrize("backend", [PORTABLE, "compiled"])
def test_first_forward(bench: Bench, backend: str) -> None:
    """Time the forward pass alone, after imports, in processes that have computed nothing before."""
    bench.describe(
        "startup", "first forward pass of a new process, D = 64, L = 64, B = 8", f"S4D ({backend})", device="cpu"
    )
    if why := unavailable_reason(backend, "cpu"):
        missing(f"S4D's backend {backend}: {why}")
    if bench.scale.tiny:
        seconds = [first_forward(backend, check=True)]
    else:
        output = python("-m", "bench.first_forward", "--backend", backend, "--processes", str(ROUNDS + 1))
        _, *seconds = map(float, output.split())  # the first process may compile code that the later ones load
    bench.record({backend: Timed(seconds, None, Contender(lambda: None))}, backend)
