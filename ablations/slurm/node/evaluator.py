"""The job that evaluates: it looks for milestones and measures those that have landed, so that no training waits."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ablations.slurm import submissions
from ablations.slurm.node.interruption import Interruption, job_here
from ablations.slurm.node.task import execute, make_runner
from ablations.slurm.scheduler import Slurm
from diffussm.errors import UserError
from diffussm.host.source import origin
from diffussm.run.claim import claim_task
from diffussm.run.heartbeat import Liveness
from diffussm.run.tasks import Task, failed_for_good, is_done, pending_tasks
from diffussm.store.rundir import RunDir
from diffussm.store.writing import write_whole

POLL_SECONDS = 5.0  # between looks for milestones
ASK_SECONDS = 30.0  # between questions to the scheduler
IDLE_SECONDS = 120.0  # until it makes room for what it waits for


class Evaluator:
    """Of the runs `ids` below `runs`, until nothing that it could do is to come for any of them."""

    def __init__(self, runs: Path, ids: Sequence[str], interruption: Interruption):
        self.runs, self.interruption = runs, interruption
        self.served = [RunDir(runs / run_id) for run_id in ids]
        self._liveness = Liveness()
        self._failed: set[tuple[Task, int]] = set()  # and the last order at that time
        self._pause = 0.0  # seconds before the next look
        self._did = self._at_work = False  # this one, or anybody, in the last look
        self._idle_since = time.monotonic()
        self._ask_anew()

    def work(self) -> None:
        """Ends by SystemExit, after a request to be queued again, where the job is cut off."""
        while self._more_comes() or self._more_comes_after_all():
            self._make_room_if_idle()
            self.interruption.sleep(self._pause)
            self._leave_if_told()

    def _make_room_if_idle(self) -> None:
        """Where all that is waited for waits in the queue, it may wait for what this job holds."""
        if self._did or self._at_work:
            self._idle_since = time.monotonic()
        elif time.monotonic() - self._idle_since > IDLE_SECONDS:
            self.interruption.yield_resources()
            raise SystemExit(0)

    def _more_comes_after_all(self) -> bool:
        """Asked once a launch that comes now does not count on this job any more."""
        mark = submissions.closing(self.runs, job_here())
        write_whole(mark, b"")
        self._ask_anew()
        if self._more_comes():
            mark.unlink()
            return True
        return False

    def _more_comes(self) -> bool:
        """Evaluate what there is; whether there may be more."""
        if time.monotonic() - self._asked > ASK_SECONDS:
            self._ask_anew()
        began, self._did, self._at_work = time.monotonic(), False, False
        looked = [self._look(run) for run in self.served]  # of all: one that failed may have been launched again
        looking = time.monotonic() - began
        self._pause = 0.0 if self._did else max(POLL_SECONDS, 4 * looking)  # folders of many runs are many files
        return any(looked)

    def _ask_anew(self) -> None:
        self._slurm, self._asked = Slurm(self.runs), time.monotonic()

    def _look(self, run: RunDir) -> bool:
        """Evaluate what there is of the run; whether more may come."""
        try:
            comes = self._comes(run)  # asked first: what lands after the question is there for the next look
            did = [self._evaluated(run, task) for task in pending_tasks(run)]
            return (comes or any(did)) and not is_done(run)
        except UserError as error:  # a damaged folder is not the others' matter
            print(f"error: {error}", file=sys.stderr, flush=True)
            return False
        except OSError as error:  # nor is a file system that is away for a while
            print(f"error: {error}", file=sys.stderr, flush=True)
            return True

    def _comes(self, run: RunDir) -> bool:
        """Whether milestones of the run may still land, or another evaluates what has."""
        tasks = pending_tasks(run)
        if run.cancelled:
            return False
        if any(self._liveness.alive(task.folder) for task in tasks):
            self._at_work = True
            return True
        if not any(task.kind == "train" for task in tasks) or not self._slurm.has_job(run.run_id, "train"):
            return False
        seen = self._slurm.newest_job(run.run_id, "train")
        self._at_work = self._at_work or seen is None or seen.phase == "running"
        return True

    def _evaluated(self, run: RunDir, task: Task) -> bool:
        """Execute the task if it is a pending evaluation that nobody executes; return whether it was tried."""
        self._leave_if_told()
        order, folder = run.order_number(), task.folder
        if task.kind == "train" or run.cancelled or (task, order) in self._failed:
            return False
        if failed_for_good(run, folder, origin()["code"]):
            return False
        number = claim_task(task, self._liveness.alive, job=job_here())
        if number is None:
            return False
        self._did = True
        if execute(make_runner(run.path, self.interruption), task, number, self.interruption).kind == "failed":
            self._failed.add((task, order))
        return True

    def _leave_if_told(self) -> None:
        if stopped := self.interruption.stop.stopped:
            self.interruption.requeue(stopped.phase)
            raise SystemExit(0)
