"""How far a run is, told from its folder, and by a scheduler where the folder leaves it open."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from ablations.status.scheduler import NOBODY, Scheduler, Seen
from diffussm.errors import UserError, one_line
from diffussm.run.heartbeat import Liveness
from diffussm.run.tasks import failure
from diffussm.store import records
from diffussm.store.rundir import RunDir
from diffussm.store.workdir import ACTIVE

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
INTERRUPTED = ("preempted", "timed out")  # phases of an attempt that was cut off after a checkpoint
ENDS = {  # of jobs that could say nothing more themselves
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
    """`pending` waits to be started or gone on with; `stale` has an owner who gives no sign of life. `left` runs wait
    for a launch: none had them yet, or the jobs that had are gone."""

    name: str = "pending"
    step: int = 0
    steps: int = 0
    evaluated: int = 0  # milestones
    evaluations: int = 0
    loss: float | None = None
    fid: float | None = None  # at the last milestone measured
    steps_per_second: float | None = None
    eta_seconds: float | None = None  # of the training
    attempts: int = 0
    reason: str = ""
    left: bool = False

    def as_dict(self) -> dict[str, Any]:
        values = asdict(self)
        return {"state": values.pop("name"), **values}


def state_of(
    run: RunDir,
    steps: int,
    milestones: Sequence[int],
    key: str,
    liveness: Liveness,
    scheduler: Scheduler = NOBODY,
) -> RunState:
    """The state of a run as far as a request goes, from its folder, then from heartbeats, and only then from what a
    scheduler says of its jobs; `key` is the digest of its evaluation key.

    A run with a damaged file has failed, for the reason of the damage.
    """
    try:
        return _state_of(run, steps, milestones, key, liveness, scheduler)
    except (UserError, OSError) as damage:  # OSError as where a file lies in the place of a folder
        return RunState("failed", steps=steps, evaluations=len(milestones), reason=one_line(damage))


def _state_of(
    run: RunDir, steps: int, milestones: Sequence[int], key: str, liveness: Liveness, scheduler: Scheduler
) -> RunState:
    found = [records.read(run.record(step, key)) for step in milestones]
    measured = [record for record in found if record is not None]
    said, step = run.state(), run.trained_steps()
    if said.get("phase") == "train" and said.get("lane") == "train":
        step = max(step, said["step"])
    seconds = said.get("seconds_per_step")
    told = Told("done") if len(measured) == len(found) else _unfinished(run, milestones, key, liveness)
    if told.name in ("pending", "stale", *INTERRUPTED):
        told = _by_scheduler(told, run, run.trained_steps() < steps, scheduler)
    name = told.name
    training = name == "running" and said.get("phase") == "train" and seconds
    return RunState(
        name=name,
        step=step,
        steps=steps,
        evaluated=len(measured),
        evaluations=len(found),
        loss=said.get("loss"),
        fid=measured[-1].metrics.get("fid") if measured else None,
        steps_per_second=1 / seconds if seconds else None,
        eta_seconds=(said["steps"] - said["step"]) * seconds if training else None,
        attempts=run.owner(),
        reason=told.reason,
        left=told.left,
    )


class Told(NamedTuple):
    name: str
    reason: str = ""
    left: bool = False


def _unfinished(run: RunDir, milestones: Sequence[int], key: str, liveness: Liveness) -> Told:
    """What the folder of a run that lacks records tells."""
    folders = [run, *(run.evaluation(step, key) for step in milestones)]
    owned = [folder for folder in folders if folder.owner()]
    if any(liveness.alive(folder) for folder in owned):
        return Told("running")
    if run.cancelled:
        return Told("cancelled", "by manage.py cancel")
    for folder in owned:
        if failed := failure(run, folder):
            return Told(failed["phase"], failed["reason"])
    if any(folder.state().get("phase", "start") in ACTIVE for folder in owned):
        return Told("stale", "no sign of life; the next launch takes it up")
    if not run.path.exists():
        return Told("pending", "not launched", left=True)
    said = run.state()
    return Told(said["phase"] if said.get("phase") in INTERRUPTED else "pending", said.get("reason", ""))


def _by_scheduler(told: Told, run: RunDir, trains: bool, scheduler: Scheduler) -> Told:
    """What the folder tells, with what the scheduler says of the newest job that was to train it, or to evaluate it."""
    seen = scheduler.of(run.run_id, "train" if trains else "evaluate")
    if seen is None:
        return told
    if seen.is_held:
        return Told(told.name, f"job {seen.job} is held: {seen.why} (scontrol release frees it)", left=True)
    if seen.phase == "queued":
        name = "pending" if told.name == "stale" else told.name
        return Told(name, f"job {seen.job} ends" if seen.word == "COMPLETING" else f"job {seen.job} waits ({seen.why})")
    if seen.phase == "running":
        if told.name == "stale":
            return Told("stale", f"no sign of life, though job {seen.job} runs")
        return Told("running", f"job {seen.job} has started")
    owner = run.owner()
    if trains and owner and run.owner_process(owner).get("job") != seen.job:
        return told  # another had it since
    if told.name in INTERRUPTED or seen.word not in ENDS:
        return Told("pending" if told.name == "stale" else told.name, _ended(seen), left=True)
    return Told(ENDS[seen.word], _ended(seen), left=True)


def _ended(seen: Seen) -> str:
    code = f", exit code {seen.why}" if seen.word == "FAILED" and seen.why else ""
    return f"job {seen.job} ended ({seen.word}{code}); the next launch takes it up"
