"""Runs one after the other in this process: breakpoints work; the first failure ends the launch with its traceback."""

from pathlib import Path

from ablations.local.listener import Listener
from ablations.plan.job import Job
from diffussm.run.heartbeat import Liveness
from diffussm.run.outcome import Outcome, outcome_of
from diffussm.run.tasks import left
from diffussm.store.rundir import RunDir


def execute(jobs: list[Job], listener: Listener, debugger: bool) -> dict[Path, Outcome]:
    """Every run in turn; with `debugger`, a failure opens pdb where it happened."""
    outcomes = {}
    for job in jobs:
        try:
            outcome = _work(job.run)
        except Exception as error:
            outcome = outcome_of(error)
            if outcome.kind == "failed":
                if debugger:
                    import pdb

                    pdb.post_mortem()
                raise
        outcomes[job.run.path] = outcome
        listener.on_end(job, outcome)
    return outcomes


def _work(run: RunDir) -> Outcome:
    """All that is left of the run, but for what another launch works on."""
    from diffussm.run.runner import Cell  # imports torch

    while works := left(run):
        if run.cancelled:
            return Outcome("cancelled", "by manage.py cancel")
        folder = works[0].folder
        owner = folder.owner()
        if Liveness(by_mtime=True).alive(folder) or (number := folder.claim(after=owner)) is None:
            return Outcome("superseded", "another launch works on it")
        Cell(run.path).do(works[0], number)
    return Outcome("done")
