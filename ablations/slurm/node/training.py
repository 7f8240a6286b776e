"""The job that trains a run, on all of its tasks together."""

import time
from functools import partial
from pathlib import Path

from ablations.slurm.node.interruption import Interruption, current_job_id
from ablations.slurm.node.task import make_runner, run_task
from diffussm.distributed.group import init_from_environment
from diffussm.run.claim import claim_task
from diffussm.run.heartbeat import STALE_SECONDS, Liveness
from diffussm.run.outcome import Outcome
from diffussm.run.tasks import Task, pending_tasks
from diffussm.store.rundir import RunDir
from diffussm.store.workdir import WorkDir

WATCH_SECONDS = 1.0  # between looks at a heartbeat


def train(path: Path, interruption: Interruption) -> None:
    """Train the run to the end of its longest request, unless another process does.

    Raise SystemExit if the training fails or the job is interrupted.
    """
    with init_from_environment() as processes:
        interruption.set_remaining_seconds(processes.broadcast(interruption.remaining_seconds()))
        run = RunDir(path)
        runner, outcome = make_runner(path, interruption, processes), Outcome("done")
        while outcome.kind == "done" and (claimed := processes.on_rank_zero(partial(_claim_training, run))):
            outcome = run_task(runner, *claimed, interruption, processes)
        if outcome.kind == "failed":
            raise SystemExit(1)  # at once: the others may wait for this one
    if outcome.kind != "done":
        raise SystemExit(0)  # returning would tell submitit that all is done


def _claim_training(run: RunDir) -> tuple[Task, int] | None:
    """Return the training and the number of its new attempt; None if it is done, cancelled, or in another process."""
    training = next((task for task in pending_tasks(run) if task.kind == "train"), None)
    if training is None or run.cancelled:
        return None
    number = claim_task(training, _wait_for_heartbeat, job=current_job_id())
    if number is None:
        print(f"{run.path}: attempt {run.owner()} already works on it", flush=True)
        return None
    return training, number


def _wait_for_heartbeat(folder: WorkDir) -> bool:
    """Return whether another process works on the folder, after watching its heartbeat for up to a minute.

    An earlier start of this very job does not count.
    """
    owner = folder.owner()
    if owner and folder.owner_process(owner).job == current_job_id():
        return False
    liveness, deadline, state = Liveness(), time.monotonic() + STALE_SECONDS, folder.state()
    while liveness.is_alive(folder) and time.monotonic() < deadline:
        if folder.state() != state:
            return True
        time.sleep(WATCH_SECONDS)
    return False
