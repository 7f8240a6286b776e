"""The one way to claim a task. No torch."""

from collections.abc import Callable, Sequence

from diffussm.run.tasks import Task, pending_tasks
from diffussm.store.rundir import RunDir
from diffussm.store.workdir import WorkDir

IsAlive = Callable[[WorkDir], bool]  # whether a process works on the folder


def assume_owner_dead(_: WorkDir) -> bool:
    """Return False: the caller knows that the owner is dead, so it may be superseded."""
    return False


def claim_task(
    task: Task, is_alive: IsAlive, owner: int | None = None, job: str = "", gpus: Sequence[str] = ()
) -> int | None:
    """Return the number of a new attempt, which owns the task's folder; None if another process works on it or has done
    it.

    `is_alive` is the liveness rule: it decides whether the present owner still works. `owner` is the attempt that the
    caller found dead (default: whichever owns the folder now); only that one is superseded. `job` is the scheduler's
    name of the job that this process belongs to; `gpus` are those that it was given.
    """
    folder = task.folder
    owner = folder.owner() if owner is None else owner
    if is_alive(folder) or task not in pending_tasks(RunDir(task.run)):
        return None
    return folder.claim(owner, job, gpus)
