"""The job that evaluates milestones as they appear, so that no training waits for an evaluation.

All tasks of the job work on one milestone together. Its first task chooses it; the others follow.
"""

from collections.abc import Sequence
from pathlib import Path

from ablations.slurm.node.evaluator import Evaluator
from ablations.slurm.node.interruption import Interruption
from ablations.slurm.node.task import make_runner, run_task
from diffussm.distributed.group import ProcessGroup, init_from_environment
from diffussm.run.outcome import Outcome
from diffussm.run.tasks import Task

PAUSE, FINISHED, INTERRUPTED = "pause", "finished", "interrupted"


def evaluate(runs: Path, ids: Sequence[str], interruption: Interruption) -> None:
    """Evaluate milestones of the runs `ids` in the folder `runs` until no more can appear. Raise SystemExit if the job
    is interrupted."""
    with init_from_environment() as processes:
        interruption.set_remaining_seconds(processes.broadcast(interruption.remaining_seconds()))
        tasks = _Tasks(interruption, processes)
        if processes.is_rank_zero:
            tasks.lead(runs, ids)
        else:
            tasks.follow()


class _Tasks:
    """The tasks of the job: what the first one announces, all of them do."""

    def __init__(self, interruption: Interruption, processes: ProcessGroup):
        self._interruption, self._processes = interruption, processes

    def lead(self, runs: Path, ids: Sequence[str]) -> None:
        try:
            Evaluator(runs, ids, self._interruption, self._announce_and_run, self._pause).work()
        except SystemExit:
            self._processes.broadcast(INTERRUPTED)
            raise
        self._processes.broadcast(FINISHED)

    def follow(self) -> None:
        while (announced := self._processes.broadcast(None)) != FINISHED:
            if announced == INTERRUPTED:
                raise SystemExit(0)  # returning would tell submitit that all is done
            if announced != PAUSE:
                self._run(*announced)

    def _announce_and_run(self, task: Task, number: int) -> Outcome:
        self._processes.broadcast((task, number))
        return self._run(task, number)

    def _run(self, task: Task, number: int) -> Outcome:
        runner = make_runner(task.run, self._interruption, self._processes)
        return run_task(runner, task, number, self._interruption, self._processes)

    def _pause(self, seconds: float) -> None:
        """Wait; a signal that reaches a task while it waits for an announcement is handled after that."""
        self._interruption.sleep(seconds)
        self._processes.broadcast(PAUSE)
