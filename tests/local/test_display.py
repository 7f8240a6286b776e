"""What a launch prints of its workers where there is no terminal."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from ablations.local import display
from ablations.local.display import Display
from diffussm.run.tasks import Task
from diffussm.store.state import State
from tests.support import tiny


def test_a_line_for_each_run_while_it_is_trained_and_while_it_is_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(display, "LINE_SECONDS", -1.0)
    run, printed = tiny.run_folder(tmp_path), io.StringIO()
    training, evaluation = Task(run.path, "train"), Task(run.path, "evaluate", 8, "request", "key")
    run.write_state(State(phase="train", attempt=1, step=7, steps=24, loss=0.5))
    evaluation.folder.path.mkdir(parents=True)
    evaluation.folder.write_state(State(phase="evaluate", attempt=1, milestone=8, sample=5, samples=12))
    with Display({run.path: "A, seed 0"}, 1, Console(file=printed, markup=False)) as shown:
        shown.on_progress([(0, training)])
        shown.on_progress([(0, evaluation)])
        shown.on_progress([])
    lines = [line.partition("] ")[2] for line in printed.getvalue().splitlines()]
    assert lines == ["A, seed 0: step 7/24, loss 0.5000", "A, seed 0: evaluating step 8, sample 5/12"]


def test_lines_are_not_too_many(tmp_path: Path) -> None:
    run, printed = tiny.run_folder(tmp_path), io.StringIO()
    with Display({run.path: "A, seed 0"}, 1, Console(file=printed, markup=False)) as shown:
        for _ in range(100):
            shown.on_progress([(0, Task(run.path, "train"))])
    assert not printed.getvalue()
