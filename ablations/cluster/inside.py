"""What a job does, on the node: pickled with the paths of run folders and nothing else. Everything heavy is imported
there, so that a launcher imports none of it."""

import os
import platform
import sys
import time
import traceback
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.cluster.commands import ask
from ablations.cluster.interruption import Interruption, job_here
from ablations.cluster.scheduler import Slurm
from ablations.liveness import STALE_SECONDS, Liveness
from ablations.work import Work, failed_for_good, is_done, left
from diffussm.errors import UserError
from diffussm.machine import gpus, usable_cores
from diffussm.rundir import RunDir
from diffussm.source import origin
from diffussm.workdir import WorkDir, to_json, write_whole

if TYPE_CHECKING:
    from ablations.cell import Cell
    from diffussm.processes import Processes

WATCH_SECONDS = 1.0  # between looks at a heartbeat
POLL_SECONDS = 5.0  # between looks for milestones
ASK_SECONDS = 30.0  # between questions to the scheduler


@dataclass(frozen=True)
class Training:
    """Trains one run as far as its requests ask, on all tasks of the job together. Its evaluations are another's."""

    run: str

    def __call__(self) -> None:
        from ablations.cell import Cell
        from diffussm.processes import of_environment

        interruption = Interruption()
        with of_environment() as processes:
            run = RunDir(Path(self.run))
            cell = Cell(run.path, threads=_cores(), processes=processes, to_logs=True)
            interruption.tell(cell.stop)
            while claimed := processes.of_first(partial(_claimed, run)):
                if not _done(cell, *claimed, interruption, processes):
                    raise SystemExit(1)


def _done(cell: "Cell", work: Work, number: int, interruption: Interruption, processes: "Processes") -> bool:
    """Do the work as that attempt; False if it failed. Where the job is cut off, it is queued again, and ends here."""
    from diffussm.training.loop import Preempted, Superseded

    try:
        cell.do(work, number)
    except Superseded as superseded:
        print(f"superseded: {superseded}", flush=True)
        raise SystemExit(0) from None
    except Preempted as preempted:
        print(f"stopped: {preempted}", flush=True)
        processes.of_first(partial(interruption.requeue, preempted.phase))
        processes.wait()  # an early end of one would end the first, which may still write
        raise SystemExit(0) from None  # returning would tell submitit that all is done
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return False
    except Exception:
        traceback.print_exc()
        sys.stderr.flush()
        return False
    return True


def _claimed(run: RunDir) -> tuple[Work, int] | None:
    """The training, if it is left to do and nobody else does it, and the number of the attempt."""
    training = next((work for work in left(run) if work.task == "train"), None)
    if training is None or run.cancelled:
        return None
    owner = run.owner()
    if _is_at_work(run, owner):
        print(f"attempt {owner} works on {run.path}: it is left to that", flush=True)
        return None
    number = run.claim(owner, job_here())
    if number is None:
        print(f"another was first at {run.path}", flush=True)
        return None
    return training, number


def _is_at_work(folder: WorkDir, owner: int) -> bool:
    """Whether another than an earlier start of this very job works there: its heart is waited for."""
    if owner and folder.owner_process(owner).get("job") == job_here():
        return False
    liveness, deadline, said = Liveness(), time.monotonic() + STALE_SECONDS, folder.state()
    while liveness.alive(folder) and time.monotonic() < deadline:
        if folder.state() != said:
            return True
        time.sleep(WATCH_SECONDS)
    return False


@dataclass(frozen=True)
class Evaluations:
    """Evaluates milestones of the runs as they land, until nothing more is to come. Each task of the job by itself."""

    runs: str
    ids: tuple[str, ...]

    def __call__(self) -> None:
        interruption = Interruption()
        waiting = [RunDir(Path(self.runs) / run_id) for run_id in self.ids]
        liveness, failed = Liveness(), set[tuple[Work, int]]()
        slurm, asked = Slurm(Path(self.runs)), time.monotonic()
        while waiting:
            if time.monotonic() - asked > ASK_SECONDS:
                slurm, asked = Slurm(Path(self.runs)), time.monotonic()
            expected = [run for run in waiting if _comes(run, liveness, slurm)]  # before looking at what is there
            did = [self._evaluate(run, liveness, failed, interruption) for run in waiting]
            waiting = [run for run in waiting if not is_done(run) and (run in expected or any(did))]
            if not any(did):
                interruption.sleep(POLL_SECONDS)
                self._leave_if_told(interruption)

    def _evaluate(
        self, run: RunDir, liveness: Liveness, failed: set[tuple[Work, int]], interruption: Interruption
    ) -> bool:
        """All that can be evaluated of the run now; whether there was anything."""
        from ablations.cell import Cell
        from diffussm.processes import ALONE

        did = False
        for work in left(run):
            self._leave_if_told(interruption)
            order, folder = run.ordered(), work.folder
            if work.task == "train" or order["order"] == "cancel" or (work, order["number"]) in failed:
                continue
            if failed_for_good(run, folder, origin()["code"]) or liveness.alive(folder):
                continue
            number = folder.claim(folder.owner(), job_here())
            if number is None:
                continue
            cell = Cell(run.path, threads=_cores(), to_logs=True)
            interruption.tell(cell.stop)
            did = True
            if not _done(cell, work, number, interruption, ALONE):
                failed.add((work, order["number"]))
        return did

    @staticmethod
    def _leave_if_told(interruption: Interruption) -> None:
        if interruption.phase:
            if os.environ.get("SLURM_PROCID", "0") == "0":
                interruption.requeue(interruption.phase)
            raise SystemExit(0)


def _comes(run: RunDir, liveness: Liveness, slurm: Slurm) -> bool:
    """Whether milestones of the run may still land, or another evaluates what has."""
    works = left(run)
    if run.cancelled:
        return False
    if any(liveness.alive(work.folder) for work in works):
        return True
    return any(work.task == "train" for work in works) and slurm.has(run.run_id, "train")


@dataclass(frozen=True)
class Probe:
    """Looks around on a node, and writes what it finds to the file `answer`."""

    answer: str

    def __call__(self) -> None:
        import torch

        found: dict[str, Any] = {
            "host": platform.node(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "cores": usable_cores(),
            "gpus": torch.cuda.device_count() or len(gpus()),
            "asks": ask("squeue", "--noheader", "--job", os.environ["SLURM_JOB_ID"]) is not None,
        }
        write_whole(Path(self.answer), to_json(found))


def _cores() -> int:
    return int(os.environ.get("SLURM_CPUS_PER_TASK", "0"))
