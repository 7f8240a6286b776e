"""Warm-up, decay and clipping: to the digit, and the same after a resumption and in a longer run."""

import math
from pathlib import Path

import pytest
import torch

from diffussm.config import TrainingConfig, run_id
from diffussm.store.rundir import RunDir
from diffussm.training.schedule import lr_factor
from diffussm.training.trainer import Trainer
from tests.support import tiny

SCHEDULED = {"training__warmup": 4, "training__lr_decay_start": 6, "training__clip": 0.5}


def test_the_learning_rate_rises_and_falls() -> None:
    config = TrainingConfig(warmup=4, lr_decay_start=6)
    found = [lr_factor(config, step) for step in range(24)]
    assert found[:6] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert found[6] == math.sqrt(6 / 7)
    assert found[23] == 0.5
    assert {lr_factor(TrainingConfig(), step) for step in (0, 1, 10**7)} == {1.0}
    assert lr_factor(TrainingConfig(warmup=10, lr_decay_start=2), 4) == 0.5 * math.sqrt(2 / 5)


def test_a_step_uses_it() -> None:
    """AdamW's first update moves a parameter by its learning rate, with the sign of its gradient."""
    trainer = Trainer(tiny.config(training__warmup=4, training__lr=1e-3), "auto")
    before = {name: p.detach().clone() for name, p in trainer.state.model.named_parameters()}
    trainer.step()
    moved = max((p.detach() - before[name]).abs().max().item() for name, p in trainer.state.model.named_parameters())
    assert moved == pytest.approx(0.25e-3, rel=1e-3)


def test_gradients_are_scaled_together() -> None:
    trainers = [Trainer(tiny.config(training__clip=clip), "auto") for clip in (0.0, 1e-3, 1e9)]
    for trainer in trainers:
        trainer.step()
    free, clipped, unclipped = (
        torch.cat([p.grad.flatten() for p in trainer.state.model.parameters() if p.grad is not None])
        for trainer in trainers
    )
    assert clipped.norm().item() == pytest.approx(1e-3, rel=1e-4)
    torch.testing.assert_close(clipped, free * (1e-3 / free.norm()), rtol=1e-4, atol=1e-12)
    assert torch.equal(unclipped, free)


def test_a_longer_budget_extends_the_run() -> None:
    longer = tiny.config(**SCHEDULED, training__steps=999, training__milestones=[999])
    assert run_id(longer) == run_id(tiny.config(**SCHEDULED))
    assert [lr_factor(longer.training, step) for step in range(24)] == [
        lr_factor(tiny.config(**SCHEDULED).training, step) for step in range(24)
    ]


def test_a_resumed_run_goes_on_as_it_would_have(tmp_path: Path) -> None:
    run = tiny.run_folder(tmp_path, **SCHEDULED)
    whole, resumed = (Trainer(run.config(), "auto") for _ in range(2))
    for step in range(9):
        whole.step()
        if step == 4:
            whole.state.save(run, 1)
            resumed.state.load_newest(RunDir(run.path))
    for _ in range(4):
        resumed.step()
    ends = [trainer.state.model.state_dict() for trainer in (whole, resumed)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


@pytest.mark.parametrize(("precision", "inside"), [("float32", "ieee"), ("tf32", "tf32"), ("bf16", "ieee")])
def test_products_are_exact_unless_tf32_is_asked_for(precision: str, inside: str) -> None:
    trainer, seen = Trainer(tiny.config(training__precision=precision), "auto"), []
    trainer.state.model.register_forward_hook(lambda *_: seen.append(torch.backends.cuda.matmul.fp32_precision))
    trainer.step()
    assert seen == [inside]
