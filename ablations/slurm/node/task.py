"""One piece of work by a job that may be cut off."""

import os
import platform
import sys
import traceback
from enum import Enum
from functools import partial
from pathlib import Path

from ablations.slurm.node.interruption import Interruption, job_here
from diffussm.distributed.group import SINGLE_PROCESS, ProcessGroup
from diffussm.errors import UserError
from diffussm.run.runner import Cell
from diffussm.run.tasks import Work
from diffussm.training.loop import Preempted, Superseded


class How(Enum):
    """How it ended; `LEFT` is to be gone on with elsewhere or later."""

    DONE = "done"
    LEFT = "left"
    FAILED = "failed"


def cell_here(run: Path, interruption: Interruption, processes: ProcessGroup = SINGLE_PROCESS) -> Cell:
    """A cell with the job's cores, which stops when the job is cut off, and prints to the run's logs."""
    given = f", GPUs {gpus}" if (gpus := os.environ.get("CUDA_VISIBLE_DEVICES")) else ""
    print(
        f"job {job_here()}, task {processes.rank + 1} of {processes.world_size}, on {platform.node()}{given}",
        flush=True,
    )
    cell = Cell(run, threads=int(os.environ.get("SLURM_CPUS_PER_TASK", "0")), processes=processes, to_logs=True)
    interruption.tell(cell.stop)
    return cell


def do(
    cell: Cell, work: Work, number: int, interruption: Interruption, processes: ProcessGroup = SINGLE_PROCESS
) -> How:
    """Do the work as that attempt. Where the job is cut off, it is queued again."""
    try:
        cell.do(work, number)
    except Superseded as superseded:
        print(f"superseded: {superseded}", flush=True)
        return How.LEFT
    except Preempted as preempted:
        print(f"stopped: {preempted}", flush=True)
        processes.on_rank_zero(partial(interruption.requeue, preempted.phase))
        processes.barrier()  # an early end of one would end the first, which may still write
        return How.LEFT
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return How.FAILED
    except Exception:
        traceback.print_exc()
        sys.stderr.flush()
        return How.FAILED
    return How.DONE
