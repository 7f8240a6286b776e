"""The debug executor: works on runs one after another in this process, so that breakpoints work. The first failure ends
the launch with its traceback."""

from pathlib import Path

from ablations.local.callbacks import ProgressCallbacks
from ablations.plan.job import Job
from diffussm.run.claim import claim_task
from diffussm.run.heartbeat import Liveness
from diffussm.run.outcome import Outcome, outcome_of
from diffussm.run.tasks import pending_tasks
from diffussm.store.rundir import RunDir


def execute(jobs: list[Job], callbacks: ProgressCallbacks, debugger: bool) -> dict[Path, Outcome]:
    """Work on each run in turn; with `debugger`, a failure opens pdb where it happened."""
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
        callbacks.on_end(job, outcome)
    return outcomes


def _work(run: RunDir) -> Outcome:
    """Do every pending task of the run, until one that another launch works on."""
    from diffussm.run.runner import TaskRunner  # imports torch

    while pending := pending_tasks(run):
        if run.cancelled:
            return Outcome("cancelled", "by manage.py cancel")
        if (number := claim_task(pending[0], Liveness(by_mtime=True).is_alive)) is None:
            return Outcome("superseded", "another launch works on it")
        TaskRunner(run.path).execute(pending[0], number)
    return Outcome("done")
