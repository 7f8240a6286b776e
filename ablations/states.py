"""How far a run is, told from its folder alone."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ablations.liveness import Liveness
from ablations.work import failure
from diffussm import records
from diffussm.errors import UserError
from diffussm.rundir import RunDir
from diffussm.workdir import ACTIVE

STATES = ("pending", "running", "stale", "failed", "diverged", "cancelled", "done")


@dataclass(frozen=True)
class RunState:
    """`pending` waits to be started or gone on with; `stale` has an owner who gives no sign of life."""

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

    def as_dict(self) -> dict[str, Any]:
        values = asdict(self)
        return {"state": values.pop("name"), **values}


def state_of(run: RunDir, steps: int, milestones: Sequence[int], key: str, liveness: Liveness) -> RunState:
    """The state of a run as far as a request goes; `key` is the digest of its evaluation key.

    A run with a damaged file has failed, for the reason of the damage.
    """
    try:
        return _state_of(run, steps, milestones, key, liveness)
    except UserError as damage:
        return RunState("failed", steps=steps, evaluations=len(milestones), reason=str(damage))


def _state_of(run: RunDir, steps: int, milestones: Sequence[int], key: str, liveness: Liveness) -> RunState:
    found = [records.read(run.record(step, key)) for step in milestones]
    measured = [record for record in found if record is not None]
    said, step = run.state(), run.trained_steps()
    if said.get("phase") == "train" and said.get("lane") == "train":
        step = max(step, said["step"])
    seconds = said.get("seconds_per_step")
    name, reason = ("done", "") if len(measured) == len(found) else _unfinished(run, milestones, key, liveness)
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
        reason=reason,
    )


def _unfinished(run: RunDir, milestones: Sequence[int], key: str, liveness: Liveness) -> tuple[str, str]:
    """State and reason of a run that lacks records."""
    folders = [run, *(run.evaluation(step, key) for step in milestones)]
    owned = [folder for folder in folders if folder.owner()]
    if any(liveness.alive(folder) for folder in owned):
        return "running", ""
    if run.cancelled:
        return "cancelled", "by manage.py cancel"
    for folder in owned:
        if failed := failure(run, folder):
            return failed["phase"], failed["reason"]
    if any(folder.state().get("phase", "start") in ACTIVE for folder in owned):
        return "stale", "no sign of life; the next launch takes it up"
    return "pending", run.state().get("reason", "")
