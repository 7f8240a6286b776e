"""Whole networks: DiT and other implementations, DiffuSSM and DiT without patching, training steps on digits.

Our DiT should be no slower than any other; the matrix products alone show how much could be gained.
"""

from functools import cache
from importlib.util import find_spec
from typing import Any

import pytest

from bench.costs import model_macs
from bench.measure import FORWARD, TRAINING, Bench, Contender, Stopwatch, TimingResult, missing
from bench.networks import diffusers, ours, products
from bench.scale import Scale
from diffussm.config import Config, resolve
from diffussm.cost.named import named_config
from diffussm.training.trainer import Trainer

PASSES = (FORWARD, TRAINING)
PEERS = {"ours": ours, "diffusers": diffusers, "matrix products alone": products}
SECONDS = 30.0  # limit for the rounds of a network on two cores
ARMS: dict[str, dict[str, Any]] = {
    "S4D, M = 2": {"model.hourglass": 2},
    "S4D, M = 1": {"model.hourglass": 1},
    "S4D, M = 1, P = 2": {"model.hourglass": 1, "model.patch": 2},
    "attention, M = 2": {"model.mixer": "attention"},
    "DiT /1": {"model.kind": "dit"},
    "DiT /2": {"model.kind": "dit", "model.patch": 2},
}

passes = pytest.mark.parametrize("pass_", PASSES)


def network(name: str, scale: Scale) -> Config:
    tiny = {"model.depth": 1, "model.image_size": 8, "model.width": 32, "model.heads": 2}
    if name.startswith("DiffuSSM"):
        del tiny["model.heads"]
    return named_config(name, tiny if scale.tiny else None)


def title(what: str, images: int) -> str:
    return f"{what}, 32 x 32 latents, B = {images}"


@cache
def peers_in_turns(stopwatch: Stopwatch, pass_: str) -> dict[str, TimingResult]:
    scale = stopwatch.scale
    config = network(f"DiT-{scale.size}/2", scale)
    available = {name: make for name, make in PEERS.items() if name != "diffusers" or find_spec(name)}
    contenders = {name: make(config, scale.images, pass_, scale.device) for name, make in available.items()}
    return stopwatch.in_turns(contenders, SECONDS)


@passes
@pytest.mark.parametrize("peer", PEERS)
def test_peers(bench: Bench, peer: str, pass_: str) -> None:
    """The ratio of ours to Diffusers' on two cores is at most 1."""
    scale = bench.scale
    bench.describe("models", title(f"DiT-{scale.size}/2", scale.images), peer, pass_)
    if peer == "diffusers" and not find_spec("diffusers"):
        missing("diffusers")
    outcomes = peers_in_turns(bench.stopwatch, pass_)
    bench.record(outcomes, peer, [other for other in outcomes if peer == "ours" != other])


def unpatched(scale: Scale) -> tuple[str, str]:
    return f"DiT-{scale.size}/1", f"DiffuSSM-{scale.size}"


def unpatched_images(scale: Scale) -> int:
    """Return the batch size: a network without patching has four times the tokens."""
    return max(1, scale.images // 2)


@cache
def unpatched_in_turns(stopwatch: Stopwatch) -> dict[str, TimingResult]:
    scale, images = stopwatch.scale, unpatched_images(stopwatch.scale)
    contenders = {name: ours(network(name, scale), images, TRAINING, scale.device) for name in unpatched(scale)}
    return stopwatch.in_turns(contenders, SECONDS)


@pytest.mark.parametrize("kind", ["DiT", "DiffuSSM"])
def test_unpatched(bench: Bench, kind: str) -> None:
    """Compare DiffuSSM with DiT, both without patching."""
    scale = bench.scale
    dit, diffussm = unpatched(scale)
    name = dit if kind == "DiT" else diffussm
    bench.describe("models", title("networks without patching", unpatched_images(scale)), name, TRAINING)
    bench.record(unpatched_in_turns(bench.stopwatch), name, [diffussm] if name == dit else [])


@pytest.mark.parametrize("arm", ARMS)
def test_training_step(bench: Bench, arm: str) -> None:
    """Time a training step: data, noise, loss, update and moving average."""
    config = resolve("digits", {**ARMS[arm], "training.batch": bench.scale.count(32)})
    bench.describe("models", f"training of digits, B = {config.training.batch}", arm, TRAINING)
    trainer, batch = Trainer(config, "auto", bench.scale.device), config.training.batch

    def check() -> None:
        assert trainer.step().total.isfinite(), "the loss is not finite"

    macs = model_macs(config, batch, TRAINING, bench.scale.device)
    bench.measure(Contender(trainer.step, check, macs, items=batch))
