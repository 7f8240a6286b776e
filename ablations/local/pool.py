"""A pool of worker processes on this machine, which share out its cores and GPUs.

Work is a training or the evaluation of one milestone (see `diffussm.run.tasks`). Evaluations go first, so that results
come as training goes on, which never waits for them; of trainings the longest goes first, so that no long one is left
for the end. What another launch works on is left to it, and taken up when its heart stops.
"""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

from ablations.plan.job import Job
from diffussm.errors import UserError
from diffussm.host.machine import gpus, memory_gb
from diffussm.run.heartbeat import Liveness
from diffussm.run.outcome import Outcome
from diffussm.run.tasks import Work, failed_for_good, is_done, left
from diffussm.store.rundir import RunDir
from diffussm.store.workdir import ACTIVE

WAIT_SECONDS = 0.2
LOOK_SECONDS = 1.0  # for milestones that landed
LOOK_AROUND_SECONDS = 5.0  # for what others do, and for orders
STOP_SECONDS = 30.0
TRIES = 2


class Listener(Protocol):
    """Who is told how it goes."""

    def working(self, at_work: Sequence[tuple[int, Work]]) -> None:
        """Several times a second: slots and what is done there."""

    def again(self, work: Work, reason: str) -> None:
        """It failed, and is tried once more."""

    def ended(self, job: Job, outcome: Outcome) -> None: ...


@dataclass(frozen=True)
class Machine:
    """`slots` runs at a time, each with `threads` threads, and a GPU where there are any."""

    slots: int
    threads: int
    gpus: tuple[str, ...] = field(default_factory=lambda: tuple(gpus()))
    memory_gb: float = field(default_factory=memory_gb)

    def apart(self, slots: list[int]) -> list[int]:
        """The slots, in an order in which the first ones have different GPUs."""
        count = max(1, len(self.gpus))
        first = {slot % count: slot for slot in reversed(slots)}.values()
        return [*sorted(first), *(slot for slot in slots if slot not in first)]

    def devices(self, slots: tuple[int, ...]) -> str | None:
        """CUDA_VISIBLE_DEVICES of a worker on these slots; None where there are no GPUs."""
        if not self.gpus:
            return None
        return ",".join(dict.fromkeys(self.gpus[slot % len(self.gpus)] for slot in slots))


class Pool:
    """`code` is the folder of the copy of the code that the workers run."""

    def __init__(self, jobs: Iterable[Job], machine: Machine, code: Path, listener: Listener):
        self.machine, self.code, self.listener = machine, code, listener
        longest_first = sorted(jobs, key=lambda job: job.seconds, reverse=True)
        self.jobs = {job.run.path: job for job in longest_first}
        self.outcomes: dict[Path, Outcome] = {}
        self._ready: dict[Path, list[Work]] = {}
        self._elsewhere: set[Path] = set()  # runs that another launch works on
        self._failed: dict[Work, tuple[Outcome, int]] = {}  # and the last order at that time
        self._tries: Counter[Work] = Counter()
        self._active: list[_Worker] = []
        self._idle: list[_Worker] = []
        self._liveness = Liveness()
        self._selector = selectors.DefaultSelector()
        self._looked = self._looked_around = time.monotonic()

    def work(self) -> dict[Path, Outcome]:
        """Until every run is done or cannot be: how each ended. On KeyboardInterrupt the workers are stopped, each
        after a checkpoint, and it is raised on."""
        try:
            for path in self.jobs:
                self._look_at(path)
            while len(self.outcomes) < len(self.jobs):
                self._start_what_fits()
                self._listen()
                self._look()
            return self.outcomes
        finally:
            self._stop()

    def _look(self) -> None:
        """Read the folders that may have changed."""
        now = time.monotonic()
        if now - self._looked > LOOK_SECONDS:
            self._looked = now
            for path in {worker.work.run for worker in self._active if worker.work and worker.work.task == "train"}:
                self._look_at(path)
        if now - self._looked_around > (LOOK_AROUND_SECONDS if self._active else LOOK_SECONDS):
            self._looked_around = now
            for path in {*self._elsewhere, *(path for path, o in self.outcomes.items() if o.kind != "done")}:
                self._look_at(path)

    def _look_at(self, path: Path) -> None:
        """What of the run can be started, what others do, and whether it is at its end, as it is by a damaged file."""
        try:
            self._examine(self.jobs[path])
        except UserError as damage:
            self._ready[path] = []
            self._elsewhere.discard(path)
            if not any(worker.work and worker.work.run == path for worker in self._active):
                self._end(self.jobs[path], Outcome("failed", str(damage)))

    def _examine(self, job: Job) -> None:
        path = job.run.path
        mine = [worker.work for worker in self._active if worker.work and worker.work.run == path]
        todo = [work for work in left(job.run) if work not in mine]
        failed = {work: outcome for work in todo if (outcome := self._failure(work))}
        open_work = [work for work in todo if work not in failed]
        elsewhere = [work for work in open_work if self._liveness.alive(work.folder)]
        cancelled = job.run.cancelled
        self._ready[path] = [] if cancelled else [work for work in open_work if work not in elsewhere]
        (self._elsewhere.add if elsewhere else self._elsewhere.discard)(path)
        if mine or elsewhere or self._ready[path]:
            self.outcomes.pop(path, None)
        elif cancelled:
            self._end(job, Outcome("cancelled", "by manage.py cancel"))
        elif failed:
            self._end(job, next(iter(failed.values())))
        elif is_done(job.run):
            self._end(job, Outcome("done"))
        else:
            self._end(job, Outcome("failed", "weights of a milestone were not kept; --replay has them made again"))

    def _failure(self, work: Work) -> Outcome | None:
        """Why the work is not tried again: it failed in this launch, or in an earlier one by this very code."""
        run = RunDir(work.run)
        if said := failed_for_good(run, work.folder, self.code.name):
            return Outcome("failed", f"{work}: {said['reason']}", str(work.folder.output(said["attempt"])))
        if work in self._failed:
            outcome, order = self._failed[work]
            if run.order_number() == order:
                return outcome
            del self._failed[work], self._tries[work]  # ordered to be retried since
        return None

    def _end(self, job: Job, outcome: Outcome) -> None:
        if self.outcomes.get(job.run.path) != outcome:
            self.outcomes[job.run.path] = outcome
            self.listener.ended(job, outcome)

    def _start_what_fits(self) -> None:
        waiting = [work for works in self._ready.values() for work in works]
        waiting.sort(key=lambda work: work.task == "train")  # stable: evaluations, then the longest training
        for work in waiting:
            slots = self._slots_for(work)
            if slots is None:
                return  # the first in the queue waits for room; nobody overtakes it
            owner = work.folder.owner()
            self._look_at(work.run)  # another launch may have been first
            if work not in self._ready[work.run]:
                continue
            self._ready[work.run].remove(work)
            worker = self._worker_on(slots)
            worker.start(work, owner)
            self._tries[work] += 1
            self._active.append(worker)

    def _slots_for(self, work: Work) -> tuple[int, ...] | None:
        """Free slots for the work; None if there are not enough, or not enough memory."""
        job = self.jobs[work.run]
        taken = {slot for worker in self._active for slot in worker.slots}
        free = [slot for slot in range(self.machine.slots) if slot not in taken]
        wanted = job.needs.slots(self.machine.threads) if work.task == "train" else 1
        count = min(wanted, self.machine.slots)
        used = sum(self.jobs[worker.work.run].needs.memory_gb or 0.0 for worker in self._active if worker.work)
        if len(free) < count or (self._active and used + (job.needs.memory_gb or 0.0) > self.machine.memory_gb):
            return None
        warm = [worker.slots for worker in self._idle if len(worker.slots) == count and set(worker.slots) <= set(free)]
        return warm[0] if warm else tuple(sorted(self.machine.apart(free)[:count]))

    def _worker_on(self, slots: tuple[int, ...]) -> "_Worker":
        """An idle worker on exactly these slots, or a new one; others that hold any of them go."""
        chosen = None
        for worker in list(self._idle):
            if worker.slots == slots:
                chosen = worker
                self._idle.remove(worker)
            elif set(worker.slots) & set(slots):
                self._idle.remove(worker)
                worker.close()
        if chosen is None:
            chosen = _Worker(slots, self.machine, self.code)
            self._selector.register(chosen.answers, selectors.EVENT_READ, chosen)
        return chosen

    def _listen(self) -> None:
        self.listener.working([(worker.slots[0], worker.work) for worker in self._active if worker.work])
        if not self._selector.get_map():
            time.sleep(WAIT_SECONDS)
        for key, _ in self._selector.select(WAIT_SECONDS):
            worker: _Worker = key.data
            outcome = worker.answer()
            if outcome.kind == "stopped":  # told to by somebody else: it leaves
                worker.lives = False
            if not worker.lives:
                self._selector.unregister(worker.answers)
                worker.close()
            if worker in self._idle:
                self._idle.remove(worker)  # it died with nothing to do
                continue
            self._active.remove(worker)
            work, worker.work = worker.work, None
            if worker.lives:
                self._idle.append(worker)
            assert work is not None
            self._take(work, outcome)

    def _take(self, work: Work, outcome: Outcome) -> None:
        """Note how the work ended; what failed and may pass is tried once more."""
        if outcome.kind == "stopped":
            self._tries[work] -= 1
        if outcome.kind == "failed":
            again = outcome.can_pass and self._tries[work] < TRIES
            if again:
                self.listener.again(work, outcome.reason)
            else:
                order = RunDir(work.run).order_number()
                self._failed[work] = Outcome("failed", f"{work}: {outcome.reason}", outcome.log), order
                if outcome.can_pass:
                    self._speak_for_the_dead(work, outcome)
        self._look_at(work.run)

    def _speak_for_the_dead(self, work: Work, outcome: Outcome) -> None:
        """Say in the folder of who died at work that it did, so that others see more than silence."""
        said, owner = work.folder.state(), work.folder.owner()
        if said.get("phase", "start") in ACTIVE and not self._liveness.alive(work.folder):
            end = {"phase": "failed", "reason": outcome.reason, "can_pass": True, "code": self.code.name}
            work.folder.write_state({**said, **end, "attempt": owner, "heartbeat": said.get("heartbeat", 0)})

    def _stop(self) -> None:
        for worker in self._active:
            worker.process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for worker in (*self._active, *self._idle):
            worker.close(max(0.0, deadline - time.monotonic()))
        self._selector.close()


class _Worker:
    """A process that does one piece of work at a time (`python -m ablations.local.worker`).

    What it prints before it has a log is kept, to be told if it dies of it.
    """

    def __init__(self, slots: tuple[int, ...], machine: Machine, code: Path):
        self.slots = slots
        self.work: Work | None = None
        self.lives = True
        self._complaints: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        threads = machine.threads * len(slots)
        path = os.pathsep.join(filter(None, [str(code), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": path}
        if (devices := machine.devices(slots)) is not None:
            environment["CUDA_VISIBLE_DEVICES"] = devices
        words = ["--launcher", str(os.getpid()), "--threads", str(threads), "--code", str(code)]
        self.process = subprocess.Popen(
            # -P: the code is the copy's, not the working folder's
            [sys.executable, "-P", "-m", "ablations.local.worker", *words],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            start_new_session=True,  # Ctrl-C reaches the launcher alone, which stops its workers in order
        )

    @property
    def answers(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    def start(self, work: Work, after: int) -> None:
        self.work = work
        asked = {**work.__dict__, "run": str(work.run.absolute()), "after": after}
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died; its answer will say so
            self.process.stdin.write(json.dumps(asked).encode() + b"\n")
            self.process.stdin.flush()

    def answer(self) -> Outcome:
        """How the work ended, once there is something to read."""
        if line := self.answers.readline():
            return Outcome(**json.loads(line))
        self.lives = False
        code = self.process.wait()
        if code in (0, -signal.SIGTERM):
            return Outcome("stopped", "the worker was told to go")
        log = self.work.folder.outputs()[-1:] if self.work else []
        if code < 0:
            return Outcome("failed", f"killed by {signal.Signals(-code).name}", "".join(map(str, log)), can_pass=True)
        self._complaints.seek(0)
        last = self._complaints.read().decode(errors="replace").strip().splitlines()[-1:]
        return Outcome("failed", " ".join([f"the worker ended with exit code {code}", *last]))

    def close(self, seconds: float = STOP_SECONDS) -> None:
        """Wait for the process to end, which it does when its stdin does; kill it after `seconds`."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.answers.close()
        self._complaints.close()
