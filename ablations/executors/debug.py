"""Runs one after the other in this process: breakpoints work; the first failure ends the launch with its traceback."""

from pathlib import Path

from ablations.executors.local import Job, Listener
from ablations.outcome import Outcome


def execute(jobs: list[Job], listener: Listener, debugger: bool) -> dict[Path, Outcome]:
    """Every run in turn; with `debugger`, a failure opens pdb where it happened."""
    from ablations.cell import Cell  # imports torch

    outcomes = {}
    for job in jobs:
        try:
            Cell(job.run.path).work()
        except Exception:
            if debugger:
                import pdb

                pdb.post_mortem()
            raise
        outcomes[job.run.path] = Outcome("done")
        listener.ended(job, outcomes[job.run.path])
    return outcomes
