"""Which milestones the evaluating job measures next, and when it ends."""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from ablations.slurm import submissions
from ablations.slurm.node.interruption import Interruption, current_job_id
from ablations.slurm.scheduler import Slurm
from diffussm.errors import UserError
from diffussm.host.source import origin
from diffussm.run.claim import claim_task
from diffussm.run.heartbeat import Liveness
from diffussm.run.outcome import Outcome
from diffussm.run.retries import Retries
from diffussm.run.tasks import Task, is_done, pending_tasks, permanent_failure
from diffussm.store.names import child
from diffussm.store.rundir import RunDir
from diffussm.store.writing import write_atomically

POLL_SECONDS = 5.0  # between looks for milestones
QUERY_SECONDS = 30.0  # between queries of the scheduler
IDLE_SECONDS = 120.0  # until it yields its resources to the trainings that it waits for


class Poll(NamedTuple):
    """What was found in one pass over the runs, or over one of them."""

    expecting: bool  # milestones may still appear
    active: bool  # another process works on a run
    evaluated: bool  # this job has evaluated a milestone, or tried to
    seconds: float = 0.0  # that the pass took


class Evaluator:
    """Has milestones of the runs `ids` in the folder `runs` evaluated until no more can appear: by `run`, which is
    called with a task and the number of an attempt, and returns its outcome. `pause` is called with seconds to wait."""

    def __init__(
        self,
        runs: Path,
        ids: Sequence[str],
        interruption: Interruption,
        run: Callable[[Task, int], Outcome],
        pause: Callable[[float], None],
    ):
        self.folder, self.interruption = runs, interruption
        self._run, self._pause = run, pause
        self.runs = [RunDir(child(runs, run_id)) for run_id in ids]
        self._liveness = Liveness()
        self._retries = Retries()
        self._failed: set[tuple[Task, int]] = set()  # with the number of the newest order at that time
        self._idle_since = time.monotonic()
        self._query_jobs()

    def work(self) -> None:
        """Evaluate milestones until no more can appear. If the job is interrupted, requeue it and raise SystemExit."""
        while True:
            poll = self._evaluate_pending()
            if not poll.expecting:
                poll = self._recheck_after_closing()
            if not poll.expecting:
                return
            self._yield_if_idle(poll)
            pause = 0.0 if poll.evaluated else max(POLL_SECONDS, 4 * poll.seconds)  # many runs are many files
            self._pause(pause)
            self._exit_if_interrupted()

    def _yield_if_idle(self, poll: Poll) -> None:
        """Requeue this job if it has been idle for two minutes while trainings are pending: they may be waiting for
        its GPU."""
        if poll.evaluated or poll.active:
            self._idle_since = time.monotonic()
        elif time.monotonic() - self._idle_since > IDLE_SECONDS:
            self.interruption.yield_resources()
            raise SystemExit(0)

    def _recheck_after_closing(self) -> Poll:
        """Announce that this job is closing, then look once more: a launch that sees the announcement submits a new
        evaluator, and what an earlier launch submitted is found here. Withdraw the announcement if milestones are
        expected after all."""
        marker = submissions.closing_marker(self.folder, current_job_id())
        write_atomically(marker, b"")
        self._query_jobs()
        poll = self._evaluate_pending()
        if poll.expecting:
            marker.unlink()
        return poll

    def _evaluate_pending(self) -> Poll:
        """Evaluate the milestones of all runs that are pending now."""
        if time.monotonic() - self._queried > QUERY_SECONDS:
            self._query_jobs()
        start = time.monotonic()
        polls = [self._evaluate_run(run) for run in self.runs]  # all of them: a failed run may be launched again
        return Poll(
            expecting=any(poll.expecting for poll in polls),
            active=any(poll.active for poll in polls),
            evaluated=any(poll.evaluated for poll in polls),
            seconds=time.monotonic() - start,
        )

    def _query_jobs(self) -> None:
        self._slurm, self._queried = Slurm(self.folder), time.monotonic()

    def _evaluate_run(self, run: RunDir) -> Poll:
        """Evaluate the milestones of the run that are pending now."""
        active = evaluated = waits = False
        try:
            expecting, active = self._expects_milestones(run)  # first: later milestones are found in the next pass
            for task in pending_tasks(run):
                evaluated = self._try_evaluate(run, task) or evaluated
                waits = waits or self._retries.is_paused(task)
            return Poll((expecting or evaluated or waits) and not is_done(run), active, evaluated and not waits)
        except UserError as error:  # a damaged folder does not affect other runs
            print(f"error: {error}", file=sys.stderr, flush=True)
            return Poll(False, active, evaluated)
        except OSError as error:  # a file system may be unavailable for a while
            print(f"error: {error}", file=sys.stderr, flush=True)
            return Poll(True, active, evaluated)

    def _expects_milestones(self, run: RunDir) -> tuple[bool, bool]:
        """Return whether another process will finish a task of the run, and whether it works on one now."""
        tasks = pending_tasks(run)
        if run.cancelled:
            return False, False
        if any(self._liveness.is_alive(task.folder) for task in tasks):
            return True, True
        if not any(task.kind == "train" for task in tasks) or not self._slurm.has_job(run.run_id, "train"):
            return False, False
        job = self._slurm.newest_job(run.run_id, "train")
        return True, job is None or job.phase == "running"

    def _try_evaluate(self, run: RunDir, task: Task) -> bool:
        """Run the task if it is an evaluation that no other process works on; return whether it was run."""
        self._exit_if_interrupted()
        order, folder = run.order_number(), task.folder
        if task.kind == "train" or run.cancelled or (task, order) in self._failed or self._retries.is_paused(task):
            return False
        if permanent_failure(run, folder, origin()["code"]):
            return False
        number = claim_task(task, self._liveness.is_alive, job=current_job_id())
        if number is None:
            return False
        outcome = self._run(task, number)
        if outcome.kind == "done":
            self._retries.forget(task)
        if outcome.kind == "failed" and not self._retries.allow(task, outcome):
            self._failed.add((task, order))
        return True

    def _exit_if_interrupted(self) -> None:
        if stopped := self.interruption.stop.stopped:
            self.interruption.requeue(stopped.phase)
            raise SystemExit(0)
