"""A pool of worker processes that share the cores and GPUs of this machine.

A task is a training or the evaluation of one milestone (see `diffussm.run.tasks`). Evaluations start first, so that
results arrive while training continues; training never waits for them. Of the trainings the longest starts first, so
that no long one remains at the end. A task that another launch works on is not started here, unless the heartbeat
there stops.
"""

import contextlib
import selectors
import time
from collections.abc import Iterable
from pathlib import Path

from ablations.local.callbacks import ProgressCallbacks
from ablations.local.slots import SlotLayout
from ablations.local.worker_process import STOP_SECONDS, WorkerProcess
from ablations.plan.job import Job
from diffussm.errors import UserError
from diffussm.run.heartbeat import Liveness
from diffussm.run.outcome import Outcome, outcome_of
from diffussm.run.retries import Retries
from diffussm.run.tasks import Task, is_done, milestones_without_weights, pending_tasks, permanent_failure
from diffussm.store.rundir import RunDir

WAIT_SECONDS = 0.2  # for answers of workers
POLL_SECONDS = 1.0  # between looks for new milestones of runs that are trained here
POLL_OTHERS_SECONDS = 5.0  # between looks at what other launches do, and for orders


class Pool:
    """Brings runs to their ends; `code` is the folder of the copy of the code that the workers run."""

    def __init__(self, jobs: Iterable[Job], layout: SlotLayout, code: Path, callbacks: ProgressCallbacks):
        self.layout, self.code, self.callbacks = layout, code, callbacks
        longest_first = sorted(jobs, key=lambda job: job.seconds, reverse=True)
        self.jobs = {job.run.path: job for job in longest_first}
        self.outcomes: dict[Path, Outcome] = {}
        self._ready: dict[Path, list[Task]] = {}
        self._waiting: set[Path] = set()  # runs that another launch works on, or that wait for the disk
        self._failed: dict[Task, tuple[Outcome, int]] = {}  # with the number of the newest order at that time
        self._retries = Retries()
        self._active: list[WorkerProcess] = []
        self._idle: list[WorkerProcess] = []
        self._in_use_elsewhere: tuple[str, ...] = ()  # GPUs of other launches
        self._liveness = Liveness()
        self._selector = selectors.DefaultSelector()
        self._polled = self._polled_others = time.monotonic()

    def work(self) -> dict[Path, Outcome]:
        """Run the tasks; return the outcome of every run once nothing more can be done for any. On KeyboardInterrupt
        stop every worker after a checkpoint and let the exception propagate."""
        try:
            for path in self.jobs:
                self._refresh(path)
            while len(self.outcomes) < len(self.jobs):
                self._start_tasks()
                self._collect_answers()
                self._poll()
            return self.outcomes
        finally:
            self._stop()

    def _poll(self) -> None:
        """Read the folders that may have changed."""
        now = time.monotonic()
        if now - self._polled > POLL_SECONDS:
            self._polled = now
            for path in {worker.task.run for worker in self._active if worker.task and worker.task.kind == "train"}:
                self._refresh(path)
        if now - self._polled_others > (POLL_OTHERS_SECONDS if self._active else POLL_SECONDS):
            self._polled_others = now
            for path in {*self._waiting, *(path for path, o in self.outcomes.items() if o.kind != "done")}:
                self._refresh(path)

    def _refresh(self, path: Path) -> None:
        """Read from the run's folder which tasks can start, which others work on, and whether the run has ended; a
        damaged file ends it, and so does a disk that is gone."""
        try:
            self._read_folder(self.jobs[path])
        except (UserError, OSError) as error:
            self._ready[path] = []
            self._waiting.discard(path)
            if not any(worker.task and worker.task.run == path for worker in self._active):
                self._end(self.jobs[path], outcome_of(error))

    def _read_folder(self, job: Job) -> None:
        path = job.run.path
        active = [worker.task for worker in self._active if worker.task and worker.task.run == path]
        todo = [task for task in pending_tasks(job.run) if task not in active]
        failed = {task: outcome for task in todo if (outcome := self._failure(task))}
        may_start = [task for task in todo if task not in failed]
        waiting = [task for task in may_start if self._retries.is_paused(task) or self._liveness.is_alive(task.folder)]
        cancelled = job.run.cancelled
        self._ready[path] = [] if cancelled else [task for task in may_start if task not in waiting]
        if waiting:
            self._waiting.add(path)
        else:
            self._waiting.discard(path)
        if active or waiting or self._ready[path]:
            self.outcomes.pop(path, None)
        elif cancelled:
            self._end(job, Outcome("cancelled", "by manage.py cancel"))
        elif failed:
            self._end(job, next(iter(failed.values())))
        elif is_done(job.run):
            self._end(job, Outcome("done"))
        else:
            self._end(job, Outcome("failed", _describe_lost(job.run)))

    def _failure(self, task: Task) -> Outcome | None:
        """Return why the task is not tried again: it failed in this launch, or in an earlier one with the same code."""
        run = RunDir(task.run)
        if state := permanent_failure(run, task.folder, self.code.name):
            return Outcome("failed", f"{task}: {state.reason}", str(task.folder.log_path(state.attempt)))
        if task in self._failed:
            outcome, order = self._failed[task]
            if run.order_number() == order:
                return outcome
            del self._failed[task]  # a retry was requested since
            self._retries.forget(task)
        return None

    def _end(self, job: Job, outcome: Outcome) -> None:
        if self.outcomes.get(job.run.path) != outcome:
            self.outcomes[job.run.path] = outcome
            self.callbacks.on_end(job, outcome)

    def _start_tasks(self) -> None:
        """Start as many tasks as there is room for."""
        waiting = [task for tasks in self._ready.values() for task in tasks]
        waiting.sort(key=lambda task: task.kind == "train")  # stable: evaluations, then the longest training
        for task in waiting:
            slots = self._slots_for(task)
            if slots is None:
                return  # the task at the front of the queue waits for room; none overtakes it
            owner = _owner(task)
            self._refresh(task.run)  # another launch may have claimed it since
            if owner is None or task not in self._ready[task.run]:
                continue
            worker = self._worker_on(slots)
            if worker is None:
                return
            self._ready[task.run].remove(task)
            worker.start(task, owner)
            self._active.append(worker)

    def _slots_for(self, task: Task) -> tuple[int, ...] | None:
        """Free slots for the task; None if there are too few, or too little memory."""
        job = self.jobs[task.run]
        taken = {slot for worker in self._active for slot in worker.slots}
        free = self._without_those_in_use([slot for slot in range(self.layout.slots) if slot not in taken])
        wanted = job.needs.slots(self.layout.threads) if task.kind == "train" else 1
        count = min(wanted, self.layout.slots)
        used = sum(self.jobs[worker.task.run].needs.memory_gb or 0.0 for worker in self._active if worker.task)
        if len(free) < count or (self._active and used + (job.needs.memory_gb or 0.0) > self.layout.memory_gb):
            return None
        warm = [worker.slots for worker in self._idle if len(worker.slots) == count and set(worker.slots) <= set(free)]
        return warm[0] if warm else tuple(sorted(self.layout.spread_over_gpus(free)[:count]))

    def _without_those_in_use(self, free: list[int]) -> list[int]:
        """Return the free slots but for those on GPUs of another launch, which are reported when they change."""
        idle = {slot for worker in self._idle for slot in worker.slots}
        in_use = self.layout.in_use_elsewhere(slot for slot in free if slot not in idle)
        gpus = self.layout.gpus_of(in_use)
        if set(gpus) - set(self._in_use_elsewhere):
            self.callbacks.on_wait(gpus)
        self._in_use_elsewhere = gpus
        return [slot for slot in free if slot not in in_use]

    def _worker_on(self, slots: tuple[int, ...]) -> WorkerProcess | None:
        """Return an idle worker on exactly these slots, or a new one, for which idle workers on any of them are closed;
        None if another launch has taken a GPU of theirs meanwhile."""
        chosen = None
        for worker in list(self._idle):
            if worker.slots == slots:
                chosen = worker
                self._idle.remove(worker)
            elif set(worker.slots) & set(slots):
                self._idle.remove(worker)
                worker.close()
        if chosen is None:
            if (locks := self.layout.lock(slots)) is None:
                return None
            chosen = WorkerProcess(slots, self.layout, self.code, locks)
            self._selector.register(chosen.answers, selectors.EVENT_READ, chosen)
        return chosen

    def _collect_answers(self) -> None:
        """Report progress, and wait a moment for tasks to end."""
        self.callbacks.on_progress([(worker.slots[0], worker.task) for worker in self._active if worker.task])
        if not self._selector.get_map():
            time.sleep(WAIT_SECONDS)
        for key, _ in self._selector.select(WAIT_SECONDS):
            worker: WorkerProcess = key.data
            outcome = worker.read_outcome()
            if outcome.kind == "stopped":  # by a signal from elsewhere: the worker ends after this answer
                worker.alive = False
            if not worker.alive:
                self._selector.unregister(worker.answers)
                worker.close()
            if worker in self._idle:
                self._idle.remove(worker)  # it died while idle
                continue
            self._active.remove(worker)
            task, worker.task = worker.task, None
            if worker.alive:
                self._idle.append(worker)
            assert task is not None
            self._record_outcome(task, outcome, worker.expected_owner)

    def _record_outcome(self, task: Task, outcome: Outcome, expected_owner: int) -> None:
        """Note how the task, whose owner was `expected_owner`, ended; a failure that may pass is tried again.

        A task that another process took over, and that is pending since that process ended too, has not failed.
        """
        if outcome.kind in ("done", "superseded"):
            if not self._could_start(task):
                self._retries.forget(task)
            elif outcome.kind == "done" or _owner(task) == expected_owner:
                outcome = Outcome("failed", "ended without an error, but is still pending", outcome.log, True)
        if outcome.kind == "failed":
            if self._retries.allow(task, outcome):
                self.callbacks.on_retry(task, outcome.reason)
            else:
                order = 0
                with contextlib.suppress(OSError):
                    order = RunDir(task.run).order_number()
                self._failed[task] = Outcome("failed", f"{task}: {outcome.reason}", outcome.log), order
                if outcome.is_transient:
                    self._record_worker_death(task, outcome)
        self._refresh(task.run)

    def _could_start(self, task: Task) -> bool:
        """Return whether the task is pending and no process works on it."""
        with contextlib.suppress(UserError, OSError):  # of a damaged file, which ends the run anyway
            return task in pending_tasks(RunDir(task.run)) and not self._liveness.is_alive(task.folder)
        return False

    def _record_worker_death(self, task: Task, outcome: Outcome) -> None:
        """Write the failure to the task's folder on behalf of a worker that died, so that others see the reason, unless
        the task was done by then."""
        folder = task.folder
        with contextlib.suppress(UserError, OSError):  # of a damaged file, which ends the run anyway
            state, owner = folder.state(), folder.owner()
            if state.is_active and self._could_start(task):
                end = {"phase": "failed", "reason": outcome.reason, "is_transient": True, "code": self.code.name}
                folder.write_state(state.updated(attempt=owner, **end))

    def _stop(self) -> None:
        for worker in self._active:
            worker.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for worker in (*self._active, *self._idle):
            worker.close(max(0.0, deadline - time.monotonic()))
        self._selector.close()


def _owner(task: Task) -> int | None:
    """Return the attempt that owns the task's folder; None if the folder cannot be read now."""
    with contextlib.suppress(OSError):
        return task.folder.owner()
    return None


def _describe_lost(run: RunDir) -> str:
    """Return why a run with nothing left to do is not done: it passed milestones without keeping their weights."""
    lost = sorted(milestones_without_weights(run))
    return f"no weights for step {', '.join(map(str, lost))}; launch with --replay to retrain up to there"
