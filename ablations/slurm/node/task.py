"""Runs one task in a job that may be interrupted."""

import os
import platform
from functools import partial
from pathlib import Path

from ablations.slurm.node.interruption import Interruption, current_job_id
from diffussm.distributed.group import SINGLE_PROCESS, ProcessGroup
from diffussm.run.outcome import Outcome, outcome_of, print_failure
from diffussm.run.runner import TaskRunner
from diffussm.run.tasks import Task


def make_runner(run: Path, interruption: Interruption, processes: ProcessGroup = SINGLE_PROCESS) -> TaskRunner:
    """Return a runner that uses the job's cores, stops when the job is interrupted, and prints to the run's logs."""
    gpus_text = f", GPUs {gpus}" if (gpus := os.environ.get("CUDA_VISIBLE_DEVICES")) else ""
    print(
        f"job {current_job_id()}, task {processes.rank + 1} of {processes.world_size}, on {platform.node()}{gpus_text}",
        flush=True,
    )
    threads = int(os.environ.get("SLURM_CPUS_PER_TASK", "0"))
    return TaskRunner(run, stop=interruption.stop, threads=threads, processes=processes, to_logs=True)


def run_task(
    runner: TaskRunner, task: Task, number: int, interruption: Interruption, processes: ProcessGroup = SINGLE_PROCESS
) -> Outcome:
    """Run the task as attempt `number`; return the outcome. Requeue the job if it is interrupted."""
    try:
        runner.execute(task, number)
    except Exception as error:
        outcome = outcome_of(error)
        match outcome.kind:
            case "failed":
                print_failure(error)
            case "superseded":
                pass  # its log says to whom it gave way
            case _:
                print(f"stopped: {error}", flush=True)
                processes.on_rank_zero(partial(interruption.requeue, outcome.phase))
                processes.barrier()  # srun kills rank zero, which may still be writing, once another rank exits
        return outcome
    return Outcome("done")
