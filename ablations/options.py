"""What the scripts' command lines share."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from diffussm.errors import UserError

RUNS = Path("runs")


def no_match(only: Sequence[str]) -> UserError:
    """The error where nothing is meant by `--only`."""
    return UserError(f"--only {' '.join(map(repr, only))}: no arm, level or run id matches")


def positive(text: str) -> int:
    """A whole number from 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not at least 1")
    return value


def seeds(text: str) -> tuple[int, ...]:
    """`3`: seeds 0, 1, 2; `0,5`: those two; `5,`: that one."""
    if "," not in text:
        return tuple(range(positive(text)))
    named = tuple(int(part) for part in text.split(",") if part)
    if len(set(named)) < len(named) or min(named, default=-1) < 0:
        raise argparse.ArgumentTypeError(f"{text}: give different whole numbers from 0")
    return named
