"""How a launch shows the progress of its workers: a bar for each on a terminal, plain lines elsewhere."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from ablations.plan.job import Job
from diffussm.errors import UserError
from diffussm.run.outcome import Outcome
from diffussm.run.tasks import Task
from diffussm.store.state import State

LINE_SECONDS = 15.0  # between lines about one run, where there are no bars
LAST_LINES = 5  # shown of a failed run's log
ROWS_FREE = 4  # of a terminal, for the lines that scroll above the bars


def plain_console() -> Console:
    """Return a console that prints text as it is: no markup, no colours of its own, no line breaks."""
    return Console(highlight=False, soft_wrap=True, markup=False)


def describe(state: State) -> tuple[str, float]:
    """Return a description of a task's state, and the fraction of its phase that is done."""
    match state:
        case State(phase="train", step=int(step), steps=int(steps), loss=float(loss)):
            again = "again to " if state.mode == "replay" else ""
            return f"{again}step {step}/{steps}, loss {loss:.4f}", step / steps
        case State(phase="evaluate", milestone=int(milestone), sample=int(sample), samples=int(samples)):
            return f"evaluating step {milestone}, sample {sample}/{samples}", sample / samples
    return "starting", 0.0


def _progress(task: Task) -> tuple[str, float]:
    try:
        return describe(task.folder.state())
    except UserError as damage:
        return str(damage), 0.0


class Display:
    """Progress of a launch with `workers` workers; `names` maps run folders to the names to show."""

    def __init__(self, names: Mapping[Path, str], workers: int, console: Console):
        self.names, self.console = names, console
        self.began = time.monotonic()
        self._ended: set[Path] = set()
        self._printed: dict[Path, float] = {}  # run -> time of its last line
        self._bars: Progress | None = None
        self._tasks: dict[int, TaskID] = {}  # slot -> its bar
        self._has_bars = console.is_terminal and workers <= console.height - ROWS_FREE

    def __enter__(self) -> "Display":
        if self._has_bars:
            columns = (
                TextColumn("{task.fields[name]}", markup=False),
                BarColumn(),
                TextColumn("{task.description}", markup=False),
                TimeElapsedColumn(),
            )
            self._bars = Progress(*columns, console=self.console, transient=True)
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars:
            self._bars.stop()

    def on_progress(self, active: Sequence[tuple[int, Task]]) -> None:
        """Update the bars, or print a line for each run that is due one."""
        for slot, task in active:
            name = self.names[task.run]
            if self._bars:
                text, fraction = _progress(task)
                if slot not in self._tasks:
                    self._tasks[slot] = self._bars.add_task(text, total=1.0, name=name)
                self._bars.update(self._tasks[slot], description=text, completed=fraction, name=name)
            elif self._is_due(task.run):
                self.line(f"{name}: {_progress(task)[0]}")
        if self._bars:
            for slot in self._tasks.keys() - {slot for slot, _ in active}:
                self._bars.remove_task(self._tasks.pop(slot))

    def on_retry(self, task: Task, reason: str) -> None:
        self.line(f"{self.names[task.run]}: {task}: {reason}; tried again")

    def on_wait(self, gpus: Sequence[str]) -> None:
        self.line(f"GPU {', '.join(gpus)}: in use by another launch; CUDA_VISIBLE_DEVICES chooses others")

    def on_end(self, job: Job, outcome: Outcome) -> None:
        path = job.run.path
        self._ended.add(path)
        reason = f": {outcome.reason}" if outcome.reason else ""
        self.line(f"{self.names[path]}: {outcome.kind}{reason} ({len(self._ended)} of {len(self.names)})")
        if outcome.kind == "failed" and outcome.log:
            for text in last_lines(Path(outcome.log), LAST_LINES):
                self.line(f"    {text}")
            self.line(f"    log: {outcome.log}")

    def line(self, text: str) -> None:
        """Print a line with the time since the launch began."""
        minutes, seconds = divmod(int(time.monotonic() - self.began), 60)
        self.console.print(f"[{minutes:02d}:{seconds:02d}] {text}", markup=False, highlight=False, soft_wrap=True)

    def _is_due(self, run: Path) -> bool:
        due = time.monotonic() - self._printed.setdefault(run, time.monotonic()) > LINE_SECONDS
        if due:
            self._printed[run] = time.monotonic()
        return due


def last_lines(log: Path, count: int) -> list[str]:
    """Return the last `count` lines of a log; none if it does not exist."""
    if not log.exists():
        return []
    return log.read_text(errors="replace").rstrip().splitlines()[-count:]
