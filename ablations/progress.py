"""How a launch shows what its workers do: live bars on a terminal, plain lines elsewhere. Reads state.json only."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from diffussm.rundir import RunDir

LINE_SECONDS = 15.0


def describe(state: Mapping[str, Any]) -> tuple[str, float]:
    """A state in words, and the fraction of its phase that is done."""
    match state.get("phase"):
        case "train":
            return f"step {state['step']}/{state['steps']}, loss {state['loss']:.4f}", state["step"] / state["steps"]
        case "evaluate":
            share = state["sample"] / state["samples"]
            return f"evaluating step {state['milestone']}, sample {state['sample']}/{state['samples']}", share
    return str(state.get("phase", "starting")), 0.0


class Display:
    """Progress of a launch of `total` runs; `names` says what each run folder is called."""

    def __init__(self, names: Mapping[Path, str], console: Console):
        self.names, self.console = names, console
        self.began = time.monotonic()
        self.ended = 0
        self._lines: dict[Path, float] = {}
        self._bars: Progress | None = None
        self._tasks: dict[Path, Any] = {}

    def __enter__(self) -> "Display":
        if self.console.is_terminal:
            columns = (
                TextColumn("{task.fields[name]}"),
                BarColumn(),
                TextColumn("{task.description}"),
                TimeElapsedColumn(),
            )
            self._bars = Progress(*columns, console=self.console, transient=True)
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars:
            self._bars.stop()

    def poll(self, active: list[Path]) -> None:
        for folder in active:
            text, fraction = describe(RunDir(folder).state())
            if self._bars:
                if folder not in self._tasks:
                    self._tasks[folder] = self._bars.add_task(text, total=1.0, name=self.names[folder])
                self._bars.update(self._tasks[folder], description=text, completed=fraction)
            elif time.monotonic() - self._lines.setdefault(folder, time.monotonic()) > LINE_SECONDS:
                self._lines[folder] = time.monotonic()
                self.line(f"{self.names[folder]}: {text}")

    def finished(self, folder: Path, words: str) -> None:
        self.ended += 1
        if self._bars and folder in self._tasks:
            self._bars.remove_task(self._tasks.pop(folder))
        self.line(f"{self.names[folder]}: {words} ({self.ended} of {len(self.names)})")

    def line(self, text: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - self.began), 60)
        self.console.print(f"[{minutes:02d}:{seconds:02d}] {text}", markup=False, highlight=False, soft_wrap=True)
