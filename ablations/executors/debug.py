"""Runs one after the other in this process: breakpoints work; the first failure ends the launch with its traceback."""

from collections.abc import Callable
from pathlib import Path

from ablations.executors.outcome import Outcome


def execute(folders: list[Path], finished: Callable[[Path, Outcome], None]) -> None:
    from ablations.cell import Cell  # imports torch

    for folder in folders:
        Cell(folder).work()
        finished(folder, Outcome("done"))
