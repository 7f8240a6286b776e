"""What a step asks of the host: neither a collective operation nor a value from the device but at every tenth step."""

import json
import math
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, distributed

import tests.support.tiny as tiny
from diffussm.config import resolve
from diffussm.distributed import sync_schedule
from diffussm.distributed.group import SINGLE_PROCESS, ProcessGroup
from diffussm.stopping import StopRequest
from diffussm.store.rundir import RunDir
from diffussm.training.loop import train
from diffussm.training.trainer import Trainer
from tests.support.processes import join_ranks, start_ranks

STEPS, MILESTONE = 23, 13
EVERY_TENTH = [10, MILESTONE, 20, STEPS]
COLLECTIVES = ("all_reduce", "all_gather", "all_gather_object", "barrier", "broadcast", "broadcast_object_list",
               "gather", "gather_object", "reduce", "scatter", "send", "recv")  # fmt: skip
READS = ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__", "__index__")


class Calls:
    """Counts calls by the step after which they come."""

    def __init__(self, trainer: Trainer):
        self.trainer, self.by_step = trainer, Counter[int]()

    def count(self) -> None:
        self.by_step[self.trainer.state.step] += 1

    def counted(self, usual: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.count()
            return usual(*args, **kwargs)

        return call


def train_to_the_end(run: RunDir, trainer: Trainer) -> None:
    milestones = {MILESTONE: ("ema",), STEPS: ("ema",)}
    train(run, trainer, 1, milestones, math.inf, lambda *_: None, StopRequest())


def collectives(processes: ProcessGroup, path: Path, out: Path) -> None:
    trainer = Trainer(RunDir(path).config(), "auto", processes=processes)
    calls = Calls(trainer)
    sync_schedule.SYNC_SECONDS = 1e6  # however slow this machine is
    for name in COLLECTIVES:
        setattr(distributed, name, calls.counted(getattr(distributed, name)))
    train_to_the_end(RunDir(path), trainer)
    (out / str(processes.rank)).write_text(json.dumps(calls.by_step))


def test_two_processes_synchronise_every_tenth_step(tmp_path: Path) -> None:
    """They sum the losses and agree on whether to stop; at the start, on what to begin with."""
    run = tiny.run_folder(tmp_path / "runs", training__steps=STEPS)
    run.claim()
    assert join_ranks(start_ranks(2, collectives, run.path, tmp_path)) == [0, 0]
    expected = {"0": 1, "1": 1} | {str(step): 2 for step in EVERY_TENTH}
    for rank in ("0", "1"):
        assert json.loads((tmp_path / rank).read_text()) == expected


def test_the_host_waits_for_the_device_every_tenth_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tiny.run_folder(tmp_path, training__steps=STEPS, training__clip=1.0)
    run.claim()
    calls = Calls(trainer := Trainer(run.config(), "auto"))
    saved: list[int] = []
    monkeypatch.setattr(trainer.state, "save", lambda *_: saved.append(trainer.state.step))  # copies all to the host
    monkeypatch.setattr(trainer.state, "save_weights", lambda *_: None)
    for name in READS:
        monkeypatch.setattr(Tensor, name, calls.counted(getattr(Tensor, name)))
    train_to_the_end(run, trainer)
    assert sorted(calls.by_step) == EVERY_TENTH
    assert saved == [MILESTONE, STEPS]


@pytest.mark.parametrize("base", ["digits", "dit"])
def test_a_step_needs_no_value_of_the_device(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the device `meta`, whose tensors have none."""
    monkeypatch.setattr("diffussm.training.trainer.autocast", lambda *_: nullcontext())  # there is none for `meta`
    kind = {"model.kind": "dit", "model.heads": 2} if base == "dit" else {"model.state": 4, "model.hourglass": 4}
    settings = {"model.width": 8, "training.batch": 4, "training.clip": 1.0, **kind}
    trainer = Trainer(resolve("digits", settings), "auto", "meta", SINGLE_PROCESS, 2)
    for _ in range(2):
        assert trainer.step().total.is_meta
