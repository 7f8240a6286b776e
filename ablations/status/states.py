"""The state of a run, read from its folder, and from a scheduler if the folder leaves it open.

A run folder stores the `State` of its newest attempt, a scheduler knows the `JobPhase` of a job, and a `RunState` is
what is shown, computed from both.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from ablations.status.scheduler import NO_SCHEDULER, JobStatus, Scheduler
from diffussm.errors import UserError, one_line
from diffussm.host.disk import disk_problem
from diffussm.run.heartbeat import Liveness
from diffussm.run.tasks import failure
from diffussm.store import records
from diffussm.store.records import KeyDigests
from diffussm.store.rundir import RunDir
from diffussm.store.workdir import WorkDir

STATES = (
    "pending",
    "running",
    "preempted",
    "timed out",
    "stale",
    "out of memory",
    "node failed",
    "failed",
    "diverged",
    "cancelled",
    "done",
)
INTERRUPTED = ("preempted", "timed out")  # phases of an attempt that was interrupted after a checkpoint
STATE_AFTER_JOB = {  # of a run whose job ended in this state, and so could not record the reason itself
    "TIMEOUT": "timed out",
    "DEADLINE": "timed out",
    "OUT_OF_MEMORY": "out of memory",
    "NODE_FAIL": "node failed",
    "BOOT_FAIL": "node failed",
    "PREEMPTED": "preempted",
    "FAILED": "failed",
}


@dataclass(frozen=True)
class RunState:
    """How far a run is. `pending`: it waits to be started or resumed. `stale`: its owner's heartbeat has stopped.

    A run that `needs_launch` is not worked on until the next launch: it was never launched, or its job has ended.
    """

    name: str = "pending"
    step: int = 0
    steps: int = 0
    evaluated: int = 0  # milestones that have a record
    evaluations: int = 0
    loss: float | None = None
    fid: float | None = None  # at the last milestone that has a record
    steps_per_second: float | None = None
    eta_seconds: float | None = None  # of the training
    gpus: tuple[str, ...] = ()  # that launches gave it, as node3:0
    attempts: int = 0
    reason: str = ""
    needs_launch: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for JSON. `left` is the former name of `needs_launch`, kept for this version."""
        values = asdict(self)
        return {"state": values.pop("name"), **values, "left": self.needs_launch}


def state_of(
    run: RunDir,
    steps: int,
    milestones: Sequence[int],
    key: KeyDigests,
    liveness: Liveness,
    scheduler: Scheduler = NO_SCHEDULER,
) -> RunState:
    """Return the state of a run with respect to a request for `steps` and `milestones`; `key` are those of its
    evaluation key. The folder decides, then heartbeats, and only then what the scheduler reports of jobs.

    A run with a damaged file has failed; the reason names the file.
    """
    try:
        return _state_of(run, steps, milestones, key, liveness, scheduler)
    except (UserError, OSError) as damage:  # OSError: for example, a file in the place of a folder
        return RunState("failed", steps=steps, evaluations=len(milestones), reason=one_line(damage))


def _state_of(
    run: RunDir, steps: int, milestones: Sequence[int], key: KeyDigests, liveness: Liveness, scheduler: Scheduler
) -> RunState:
    found = [records.find(run.milestone(step), key) for step in milestones]
    measured = [record for record in found if record is not None]
    state, step = run.state(), run.trained_steps()
    if state.phase == state.mode == "train":
        step = max(step, state.step or 0)
    seconds = state.seconds_per_step
    status = _Status("done") if len(measured) == len(found) else _status_in_folder(run, milestones, key, liveness)
    if status.name == "pending" and (refused := _refused_record(run, milestones, key)):
        status = _Status("pending", refused)
    if status.name in ("pending", "stale", *INTERRUPTED):
        status = _status_with_job(status, run, run.trained_steps() < steps, scheduler)
        if problem := disk_problem(run.path):
            status = status._replace(reason="; ".join(filter(None, [problem, status.reason])))
    training = status.name == "running" and state.phase == "train"
    return RunState(
        name=status.name,
        step=step,
        steps=steps,
        evaluated=len(measured),
        evaluations=len(found),
        loss=state.loss,
        fid=measured[-1].metrics.get("fid") if measured else None,
        steps_per_second=1 / seconds if seconds else None,
        eta_seconds=(state.steps - (state.step or 0)) * seconds if training and seconds and state.steps else None,
        gpus=_gpus(run, milestones, key, liveness) if status.name == "running" else (),
        attempts=run.owner(),
        reason=status.reason,
        needs_launch=status.needs_launch,
    )


def _gpus(run: RunDir, milestones: Sequence[int], key: KeyDigests, liveness: Liveness) -> tuple[str, ...]:
    """Return the GPUs of the processes that train the run or evaluate its milestones."""
    folders = [folder for folder in _folders(run, milestones, key) if folder.owner() and liveness.is_alive(folder)]
    owners = [folder.owner_process(folder.owner()) for folder in folders]
    return tuple(dict.fromkeys(f"{owner.host}:{gpu}" for owner in owners for gpu in owner.gpus))


def _folders(run: RunDir, milestones: Sequence[int], key: KeyDigests) -> list[WorkDir]:
    return [run, *(run.evaluation(step, key.key) for step in milestones)]


def _refused_record(run: RunDir, milestones: Sequence[int], key: KeyDigests) -> str:
    """Return why a record is refused; "" if none is."""
    refused = [reason for step in milestones if (reason := records.refusal_of(run.milestone(step), key))]
    return f"{refused[0]}; the next launch measures it again" if refused else ""


class _Status(NamedTuple):
    """The fields of a RunState that say who works on the run, if anybody does."""

    name: str
    reason: str = ""
    needs_launch: bool = False


def _status_in_folder(run: RunDir, milestones: Sequence[int], key: KeyDigests, liveness: Liveness) -> _Status:
    """Return the status of a run with missing records, as its folder has it."""
    owned = [folder for folder in _folders(run, milestones, key) if folder.owner()]
    if any(liveness.is_alive(folder) for folder in owned):
        return _Status("running", run.state().warning)
    if run.cancelled:
        return _Status("cancelled", "by manage.py cancel")
    for folder in owned:
        if failed := failure(run, folder):
            return _Status(failed.phase, failed.reason)
    if any(folder.state().is_active for folder in owned):
        return _Status("stale", "no heartbeat; the next launch resumes it")
    if not run.path.exists():
        return _Status("pending", "not launched", needs_launch=True)
    state = run.state()
    return _Status(state.phase if state.phase in INTERRUPTED else "pending", state.reason)


def _status_with_job(status: _Status, run: RunDir, trains: bool, scheduler: Scheduler) -> _Status:
    """Return the status in the folder, updated with that of the newest job that trains or else evaluates the run."""
    job = scheduler.newest_job(run.run_id, "train" if trains else "evaluate")
    if job is None:
        return status
    if job.is_held:
        reason = f"job {job.job} is held: {job.reason} (scontrol release frees it)"
        return _Status(status.name, reason, needs_launch=True)
    if job.phase == "queued":
        name = "pending" if status.name == "stale" else status.name
        what = "is completing" if job.state == "COMPLETING" else f"waits ({job.reason})"
        return _Status(name, f"job {job.job} {what}")
    if job.phase == "running":
        if status.name == "stale":
            return _Status("stale", f"no heartbeat, though job {job.job} runs")
        return _Status("running", f"job {job.job} has started")
    owner = run.owner()
    if trains and owner and run.owner_process(owner).job != job.job:
        return status  # the newest attempt belongs to another job or launch
    if status.name in INTERRUPTED or job.state not in STATE_AFTER_JOB:
        return _Status("pending" if status.name == "stale" else status.name, _end_of_job(job), needs_launch=True)
    return _Status(STATE_AFTER_JOB[job.state], _end_of_job(job), needs_launch=True)


def _end_of_job(job: JobStatus) -> str:
    code = f", exit code {job.reason}" if job.state == "FAILED" and job.reason else ""
    return f"job {job.job} ended ({job.state}{code}); the next launch resumes the run"
