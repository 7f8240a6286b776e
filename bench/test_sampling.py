"""Images per second of the samplers: DDPM (250 steps), DDIM (50) and DPM-Solver++ (20), on DiffuSSM and DiT."""

from importlib.util import find_spec
from typing import Any

import pytest

from bench.costs import model_macs
from bench.measure import FORWARD, Bench, Contender, missing
from bench.scale import Scale
from diffussm.config import Config, resolve
from diffussm.cost.named import named_config
from diffussm.metrics.sampling import SampleMaker
from diffussm.models.build import build_model

SAMPLERS = {"ddpm": 250, "ddim": 50, "dpm-solver++": 20}
KINDS: dict[str, dict[str, Any]] = {
    "DiffuSSM": {"model.kind": "diffussm"},
    "DiT /2": {"model.kind": "dit", "model.patch": 2},
}
SECONDS = 20.0  # limit for the rounds on two cores


def network(kind: str, sampler: str, scale: Scale) -> Config:
    """Return a config for digits or, at the scale `paper`, for latents at the size XL."""
    settings: dict[str, Any] = {
        "evaluation.sampler": sampler,
        "evaluation.sampler_steps": 5 if scale.tiny else SAMPLERS[sampler],
    }
    if scale.name == "paper":
        return named_config("DiffuSSM-XL" if kind == "DiffuSSM" else "DiT-XL/2", settings)
    return resolve("digits", {**KINDS[kind], **settings})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_sampling(bench: Bench, sampler: str, kind: str) -> None:
    scale = bench.scale
    config, images = network(kind, sampler, scale), 2 if scale.tiny else 4
    m, steps = config.model, config.evaluation.sampler_steps
    title = f"sampling {images} images of {m.channels} x {m.image_size} x {m.image_size}, {sampler}, {steps} steps"
    bench.describe("sampling", title, kind)
    if sampler == "dpm-solver++" and not find_spec("diffusers"):
        missing("diffusers")
    make = SampleMaker(config, build_model(config).to(scale.device), scale.device)

    def check() -> None:
        """Assert that a sample depends on its index alone, not on the batch; NotFinite if it is not finite."""
        several, one = make(0, 2).pixels, make(1, 1).pixels
        assert abs(several[1:].astype(int) - one.astype(int)).max() <= 1, "depends on the batch"

    macs = model_macs(config, images, FORWARD, scale.device)
    bench.measure(Contender(lambda: make(0, images), check, macs and steps * macs, items=images), SECONDS)
