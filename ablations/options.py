"""Parts that the command lines of the scripts share."""

import argparse
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diffussm.errors import UserError

RUNS = Path("runs")


def script(name: str) -> str:
    """Return the command that runs a script of this clone from the working directory, for commands that are shown."""
    path, here = Path(__file__).resolve().parents[1] / name, Path.cwd()
    return shlex.join(["python", str(path.relative_to(here) if here in path.parents else path)])


def no_match(only: Sequence[str]) -> UserError:
    """Return the error for an `--only` that selects nothing."""
    return UserError(f"--only {' '.join(map(repr, only))}: no arm, level or run id matches")


def positive(text: str) -> int:
    """Parse a whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not at least 1")
    return value


def not_negative(text: str) -> int:
    """Parse a whole number of at least 0."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{value} is not at least 0")
    return value


def add_step_settings(parser: argparse.ArgumentParser) -> None:
    """Add the options that change how runs are computed from their next start on."""
    add = parser.add_argument
    add("--micro-batch", type=not_negative, metavar="N",
        help="from their next start on, runs compute at most N images at once on each GPU; 0: all")  # fmt: skip
    add("--checkpointing", choices=("none", "block"),
        help="from their next start on, runs compute blocks again in the backward pass (block) or not")  # fmt: skip
    add("--compile", choices=("none", "block"),
        help="from their next start on, runs compile each block in training (block) or not")  # fmt: skip


def step_settings(options: argparse.Namespace) -> dict[str, Any]:
    """Return what those options set."""
    given = {name: getattr(options, name) for name in ("micro_batch", "checkpointing", "compile")}
    return {name: value for name, value in given.items() if value is not None}


def seeds(text: str) -> tuple[int, ...]:
    """Parse seeds: `3` gives 0, 1 and 2; `0,5` gives these two; `5,` gives only 5."""
    if "," not in text:
        return tuple(range(positive(text)))
    values = tuple(int(part) for part in text.split(",") if part)
    if len(set(values)) < len(values) or min(values, default=-1) < 0:
        raise argparse.ArgumentTypeError(f"{text}: must be distinct whole numbers of at least 0")
    return values


def to_json(content: Any) -> str:
    """Return what `--json` prints."""
    return json.dumps(content, indent=1, allow_nan=False)


def to_json_line(content: Any) -> str:
    """Return what `--json` prints again and again, a line each time."""
    return json.dumps(content, allow_nan=False)
