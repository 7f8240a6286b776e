"""The same samples at any batch size: noise to the bit, images to a grey level, metrics to 1e-3."""

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from diffussm.config import Config, resolve
from diffussm.diffusion.sampling import Network, Noise, Sampler, make_sampler
from diffussm.metrics import sampling
from diffussm.metrics.key import evaluation_key
from diffussm.metrics.sampling import Samples, generate
from diffussm.metrics.suite import MetricSuite, metric_suite
from diffussm.models.build import build_model
from diffussm.models.weights import load_weights
from diffussm.training.trainer import Trainer

SAMPLES, STEPS = 96, 5
SETTINGS = {"size": "S", "evaluation.samples": SAMPLES, "evaluation.sampler_steps": STEPS}
MODELS = {"s4d": {"model.mixer": "s4d"}, "attention": {"model.mixer": "attention"}, "dit": {"model.kind": "dit"}}


def config(model: str, **evaluation: Any) -> Config:
    return resolve("digits", SETTINGS | MODELS[model] | {f"evaluation.{key}": to for key, to in evaluation.items()})


def suite_of(model: str) -> MetricSuite:
    return metric_suite(config(model).evaluation, evaluation_key(config(model)))


@cache
def trained(model: str) -> torch.nn.Module:
    """The moving average of 60 steps."""
    trainer = Trainer(config(model), "auto")
    for _ in range(60):
        trainer.step()
    network = build_model(trainer.config).eval()
    load_weights(network, trainer.state.ema.state_dict(), "trained here")
    return network


def made(model: str, sampler: str, batch: int) -> tuple[Samples, dict[int, torch.Tensor]]:
    """Samples, and for each step the noise that the sampler was handed, in the samples' order."""
    handed: dict[int, list[torch.Tensor]] = {}

    def recording(*args: Any, **kwargs: Any) -> Sampler:
        sample = make_sampler(*args, **kwargs)

        def with_record(network: Network, labels: torch.Tensor, noise: Noise) -> torch.Tensor:
            def recorded(step: int) -> torch.Tensor:
                handed.setdefault(step, []).append(noise(step))
                return handed[step][-1]

            return sample(network, labels, recorded)

        return with_record

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling, "make_sampler", recording)
        samples = generate(config(model, sampler=sampler, batch=batch), trained(model), SAMPLES)
    return samples, {step: torch.cat(parts) for step, parts in handed.items()}


def among_others(*values: str) -> Any:
    """A case that others stand for in the quick tests."""
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("model", "sampler"),
    [
        ("s4d", "ddim"),
        ("attention", "ddpm"),
        among_others("attention", "ddim"),
        among_others("attention", "dpm-solver++"),
        among_others("dit", "ddim"),
    ],
)
def test_samples_are_the_same_at_any_batch_size(model: str, sampler: str) -> None:
    suite = suite_of(model)
    whole, noise = made(model, sampler, SAMPLES)
    assert set(noise) == (set(range(STEPS)) if sampler == "ddpm" else {0})
    for batch in (40, 7, 1):
        samples, other_noise = made(model, sampler, batch)
        assert noise.keys() == other_noise.keys()
        assert all(torch.equal(noise[step], other_noise[step]) for step in noise)
        np.testing.assert_array_equal(samples.labels, whole.labels)
        difference = np.abs(samples.pixels.astype(int) - whole.pixels)
        assert (difference <= 1).mean() >= 0.999
        assert suite.measure_images(*samples) == pytest.approx(suite.measure_images(*whole), abs=1e-3)


@pytest.mark.parametrize("model", ["s4d", among_others("attention"), among_others("dit")])
def test_samples_are_equal_to_the_bit_at_an_equal_batch_size(model: str) -> None:
    for batch in (SAMPLES, 7):
        (once, noise), (again, same_noise) = (made(model, "ddpm", batch) for _ in range(2))
        assert all(torch.equal(noise[step], same_noise[step]) for step in noise)
        np.testing.assert_array_equal(once.pixels, again.pixels)
        assert suite_of(model).measure_images(*once) == suite_of(model).measure_images(*again)
