"""Whether a task that ended without an error has made what it was to make: what was written is read back."""

from collections.abc import Collection, Mapping

from diffussm.run.tasks import Task, record_of
from diffussm.store.rundir import RunDir


class Unfinished(Exception):
    """A task ended without an error, and what it was to make is missing or not valid; another attempt would end so
    too."""


def check_training(run: RunDir, milestones: Mapping[int, Collection[str]], first_step: int) -> None:
    """Raise Unfinished unless the run has a checkpoint at the last of the milestones, and the weights of each that was
    passed by a training that began at `first_step`."""
    steps, trained = max(milestones), run.trained_steps()
    if trained < steps:
        raise Unfinished(f"trained to step {steps}, but the newest checkpoint in {run.path} is of step {trained}")
    for step, kinds in milestones.items():
        for kind in kinds:
            if step > first_step and not run.weights(step, kind).exists():
                raise Unfinished(f"trained to step {steps}, but {run.weights(step, kind)} is missing")


def check_evaluation(task: Task) -> None:
    """Raise Unfinished unless the task's record is there and valid."""
    path = RunDir(task.run).record(task.step, task.key)
    if record_of(task) is None:
        what = "is not valid" if path.exists() else "is missing"
        cause = "if its reference or extractor was changed meanwhile, launch again"
        raise Unfinished(f"measured step {task.step}, but the record {path} {what}; {cause}")
