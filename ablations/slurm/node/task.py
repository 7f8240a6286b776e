"""One task, executed by a job that may be interrupted."""

import os
import platform
from functools import partial
from pathlib import Path

from ablations.slurm.node.interruption import Interruption, job_here
from diffussm.distributed.group import SINGLE_PROCESS, ProcessGroup
from diffussm.run.outcome import Outcome, outcome_of, print_failure
from diffussm.run.runner import TaskRunner
from diffussm.run.tasks import Task


def make_runner(run: Path, interruption: Interruption, processes: ProcessGroup = SINGLE_PROCESS) -> TaskRunner:
    """Return a runner that uses the job's cores, stops when the job is interrupted, and prints to the run's logs."""
    given = f", GPUs {gpus}" if (gpus := os.environ.get("CUDA_VISIBLE_DEVICES")) else ""
    print(
        f"job {job_here()}, task {processes.rank + 1} of {processes.world_size}, on {platform.node()}{given}",
        flush=True,
    )
    threads = int(os.environ.get("SLURM_CPUS_PER_TASK", "0"))
    return TaskRunner(run, stop=interruption.stop, threads=threads, processes=processes, to_logs=True)


def execute(
    runner: TaskRunner, task: Task, number: int, interruption: Interruption, processes: ProcessGroup = SINGLE_PROCESS
) -> Outcome:
    """Execute the task as attempt `number`; return the outcome. An interrupted job is requeued."""
    try:
        runner.execute(task, number)
    except Exception as error:
        outcome = outcome_of(error)
        match outcome.kind:
            case "failed":
                print_failure(error)
            case "superseded":
                print(f"superseded: {error}", flush=True)
            case _:
                print(f"stopped: {error}", flush=True)
                processes.on_rank_zero(partial(interruption.requeue, outcome.phase))
                processes.barrier()  # an early end of one would end the first, which may still write
        return outcome
    return Outcome("done")
