"""The training step, its data order, the moving average, and what a run folder keeps."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tests.support.tiny as tiny
from diffussm.config import resolve
from diffussm.errors import Diverged
from diffussm.stopping import StopRequest
from diffussm.store.rundir import RunDir
from diffussm.training.adamw import AdamW
from diffussm.training.batches import scaled
from diffussm.training.ema import EMA
from diffussm.training.loop import train
from diffussm.training.state import KEPT_CHECKPOINTS
from diffussm.training.trainer import Trainer
from tests.support.evaluating import ROOT


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    one = Trainer(tiny.config(), "auto")
    other = Trainer(tiny.config(model__hourglass=1), "auto")
    other.step()
    for a, b in zip(one.batches.draw(5), other.batches.draw(5), strict=True):
        assert torch.equal(a, b)
    different = Trainer(tiny.config(seed=1), "auto").batches.draw(5)
    assert not torch.equal(one.batches.draw(5).noise, different.noise)


def test_pixels_are_scaled_as_torch_scales_them() -> None:
    pixels = np.arange(256, dtype=np.uint8)
    assert torch.equal(torch.from_numpy(scaled(pixels)), torch.from_numpy(pixels).float() / 127.5 - 1)


def test_labels_are_dropped_at_the_given_rate() -> None:
    trainer = Trainer(resolve("digits", {"training.label_dropout": 0.3, "training.batch": 2000}), "auto")
    assert (trainer.batches.draw(0).labels == 10).float().mean().item() == pytest.approx(0.3, abs=0.04)


def test_the_first_step_of_mnist() -> None:
    """The network starts by predicting no noise, whose error is the noise itself."""
    trainer = Trainer(resolve("mnist", {"model.width": 16, "model.depth": 1, "training.batch": 2}), "auto")
    images, _, _, noise = trainer.batches.draw(0)
    assert images.shape == (2, 1, 28, 28)
    assert trainer.step().mse.item() == pytest.approx(noise.square().mean().item(), rel=1e-5)


def test_training_lowers_the_loss() -> None:
    trainer = Trainer(resolve("digits", {"model.width": 32, "model.hourglass": 4}), "auto")
    losses = [trainer.step().mse.item() for _ in range(60)]
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:5])


@pytest.mark.parametrize(
    "changes",
    [
        {"training__precision": "bf16"},
        {"model__classes": 0, "evaluation__metrics": ["fid"]},
        {"diffusion__learned_variance": False, "diffusion__loss": "simple"},
        {"model__mixer": "identity", "model__state": None},
        {"model__mixer": "attention", "model__state": None, "model__heads": 2},
        {"model__direction": "forward"},
        {"model__residual": "full"},
        {"model__scan": "hilbert"},
        {"model__s4d_init": "real"},
        {"model__kind": "dit", "model__state": None, "model__hourglass": None, "model__heads": 2},
    ],
)
def test_every_variant_trains(changes: dict[str, object]) -> None:
    settings = {**tiny.SETTINGS, **{key.replace("__", "."): value for key, value in changes.items()}}
    trainer = Trainer(resolve("digits", {k: v for k, v in settings.items() if v is not None}), "auto")
    before = [p.detach().clone() for p in trainer.state.model.parameters()]
    for _ in range(3):
        assert torch.isfinite(trainer.step().total)
    moved = [not torch.equal(a, b) for a, b in zip(before, trainer.state.model.parameters(), strict=True)]
    assert all(moved)


def test_moving_average_warms_up() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(model.weight, 0.0)
    ema = EMA(model, decay=0.5)
    expected = 0.0
    for step, decay in ((1, 2 / 11), (2, 3 / 12), (30, 0.5)):
        torch.nn.init.constant_(model.weight, float(step))
        ema.update(step)
        expected = decay * expected + (1 - decay) * step
        assert ema.state_dict()["weight"].item() == pytest.approx(expected)


def test_divergence_is_an_error_with_its_step(tmp_path: Path) -> None:
    run = tiny.run_folder(tmp_path)
    trainer = Trainer(run.config(), "auto")
    with torch.no_grad():
        trainer.state.model.x_embedder.weight.fill_(float("nan"))
    attempt = run.claim()
    with pytest.raises(Diverged, match="loss is nan at step 8"):
        train(run, trainer, attempt, {8: ("ema",)}, 60.0, lambda *_: None, StopRequest())
    assert run.checkpoints() == []


def test_only_the_last_checkpoints_are_kept(tmp_path: Path) -> None:
    run = tiny.run_folder(tmp_path)
    trainer = Trainer(run.config(), "auto")
    train(run, trainer, run.claim(), {8: ("ema", "raw")}, 0.0, lambda *_: None, StopRequest())
    assert len(run.checkpoints()) == KEPT_CHECKPOINTS
    assert run.trained_steps() == 8
    assert run.weights(8, "ema").exists()
    assert run.weights(8, "raw").exists()


def test_the_optimiser_is_torch_s_to_the_bit() -> None:
    """And takes up what torch's left off."""
    sizes, groups = [(3, 5), (7,), (2, 2)], [(slice(0, 2), 1e-2, 0.1), (slice(2, 3), 1e-3, 0.0)]
    draws = torch.Generator().manual_seed(0)
    theirs = [torch.nn.Parameter(torch.randn(size, generator=draws)) for size in sizes]
    ours = [torch.nn.Parameter(p.detach().clone()) for p in theirs]

    def grouped(params: list[torch.nn.Parameter]) -> list[dict[str, Any]]:
        return [{"params": params[part], "lr": lr, "weight_decay": decay} for part, lr, decay in groups]

    torch_s, own = torch.optim.AdamW(grouped(theirs), fused=True), AdamW(grouped(ours))
    for step in range(6):
        for a, b in zip(theirs, ours, strict=True):
            a.grad = torch.randn(a.shape, generator=draws)
            b.grad = a.grad.clone()
        if step < 3:
            ours[1].grad = theirs[1].grad = None
        torch_s.step()
        own.step()
        assert all(torch.equal(a, b) for a, b in zip(theirs, ours, strict=True))
        own = AdamW(grouped(ours))
        own.load_state_dict(torch_s.state_dict())
    own.zero_grad()
    assert [p.grad for p in ours] == [None] * 3
    with pytest.raises(ValueError, match=r"moments of parameter 0 are not of its shape \(7,\)"):
        AdamW(grouped(ours[1:])).load_state_dict(torch_s.state_dict())


def test_a_training_of_one_process_needs_no_compiler() -> None:
    code = """
import sys
import tests.support.tiny as tiny
from diffussm.training.trainer import Trainer
Trainer(tiny.config(), "reference").step()
assert "torch._dynamo" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_resumed_optimiser_is_the_same(tmp_path: Path) -> None:
    run = tiny.run_folder(tmp_path)
    trainer = Trainer(run.config(), "auto")
    for _ in range(3):
        trainer.step()
    trainer.state.save(run, 1)
    resumed = Trainer(run.config(), "auto")
    resumed.state.load_newest(RunDir(run.path))
    trainer.step()
    resumed.step()
    for a, b in zip(trainer.state.model.parameters(), resumed.state.model.parameters(), strict=True):
        assert torch.equal(a, b)
