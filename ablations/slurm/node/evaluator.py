"""The job that evaluates milestones as they appear, so that no training waits for an evaluation."""

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
QUERY_SECONDS = 30.0  # between queries of the scheduler
IDLE_SECONDS = 120.0  # until it yields its resources to the trainings that it waits for


class Evaluator:
    """Evaluates milestones of the runs `ids` in the folder `runs`, until no more are to come for any of them."""

    def __init__(self, runs: Path, ids: Sequence[str], interruption: Interruption):
        self.runs, self.interruption = runs, interruption
        self.served = [RunDir(runs / run_id) for run_id in ids]
        self._liveness = Liveness()
        self._failed: set[tuple[Task, int]] = set()  # with the number of the newest order at that time
        self._pause = 0.0  # seconds before the next look
        self._evaluated_some = self._others_active = False  # in the last pass over the runs
        self._idle_since = time.monotonic()
        self._query_slurm()

    def work(self) -> None:
        """Evaluate until no more milestones are to come. An interrupted job is requeued, and ends by SystemExit."""
        while self._evaluate_available() or self._check_again():
            self._yield_if_idle()
            self.interruption.sleep(self._pause)
            self._exit_if_interrupted()

    def _yield_if_idle(self) -> None:
        """Requeue an idle job: the trainings that it waits for may be pending because of the resources that it
        holds."""
        if self._evaluated_some or self._others_active:
            self._idle_since = time.monotonic()
        elif time.monotonic() - self._idle_since > IDLE_SECONDS:
            self.interruption.yield_resources()
            raise SystemExit(0)

    def _check_again(self) -> bool:
        """Return whether milestones are still to come, after marking this job as closing: launches no longer rely on
        it."""
        mark = submissions.closing(self.runs, job_here())
        write_whole(mark, b"")
        self._query_slurm()
        if self._evaluate_available():
            mark.unlink()
            return True
        return False

    def _evaluate_available(self) -> bool:
        """Evaluate the milestones that there are; return whether more may come."""
        if time.monotonic() - self._queried > QUERY_SECONDS:
            self._query_slurm()
        began, self._evaluated_some, self._others_active = time.monotonic(), False, False
        more = [self._evaluate_run(run) for run in self.served]  # all of them: a failed run may be launched again
        seconds = time.monotonic() - began
        self._pause = 0.0 if self._evaluated_some else max(POLL_SECONDS, 4 * seconds)  # many runs are many files
        return any(more)

    def _query_slurm(self) -> None:
        self._slurm, self._queried = Slurm(self.runs), time.monotonic()

    def _evaluate_run(self, run: RunDir) -> bool:
        """Evaluate the milestones that there are of the run; return whether more may come."""
        try:
            expected = self._expects_more(run)  # checked before: later milestones are found in the next pass
            done = [self._try_evaluation(run, task) for task in pending_tasks(run)]
            return (expected or any(done)) and not is_done(run)
        except UserError as error:  # a damaged folder does not affect other runs
            print(f"error: {error}", file=sys.stderr, flush=True)
            return False
        except OSError as error:  # a file system may be absent for a while
            print(f"error: {error}", file=sys.stderr, flush=True)
            return True

    def _expects_more(self, run: RunDir) -> bool:
        """Return whether milestones of the run may still appear, or another process works on a task of it."""
        tasks = pending_tasks(run)
        if run.cancelled:
            return False
        if any(self._liveness.alive(task.folder) for task in tasks):
            self._others_active = True
            return True
        if not any(task.kind == "train" for task in tasks) or not self._slurm.has_job(run.run_id, "train"):
            return False
        job = self._slurm.newest_job(run.run_id, "train")
        self._others_active = self._others_active or job is None or job.phase == "running"
        return True

    def _try_evaluation(self, run: RunDir, task: Task) -> bool:
        """Execute the task if it is a pending evaluation that nobody executes; return whether it was tried."""
        self._exit_if_interrupted()
        order, folder = run.order_number(), task.folder
        if task.kind == "train" or run.cancelled or (task, order) in self._failed:
            return False
        if failed_for_good(run, folder, origin()["code"]):
            return False
        number = claim_task(task, self._liveness.alive, job=job_here())
        if number is None:
            return False
        self._evaluated_some = True
        if execute(make_runner(run.path, self.interruption), task, number, self.interruption).kind == "failed":
            self._failed.add((task, order))
        return True

    def _exit_if_interrupted(self) -> None:
        if stopped := self.interruption.stop.stopped:
            self.interruption.requeue(stopped.phase)
            raise SystemExit(0)
