"""Features, the Frechet distance against independent oracles, samples that depend on (seed, index) alone."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

import tests.support.tiny as tiny
from diffussm.config import Config, resolve
from diffussm.data.load import reference_images
from diffussm.errors import UserError
from diffussm.metrics.decoding.pixels import to_pixels
from diffussm.metrics.features import registry
from diffussm.metrics.features import train_small_cnn as train_extractor
from diffussm.metrics.features.extractor import Extractor
from diffussm.metrics.features.small_cnn import FEATURES
from diffussm.metrics.key import evaluation_key
from diffussm.metrics.pictures.sheet import sheet
from diffussm.metrics.sampling import DRAWERS, SampleMaker, generate
from diffussm.metrics.statistics.fid import noise_floor
from diffussm.metrics.statistics.frechet import Statistics, frechet_distance
from diffussm.metrics.suite import metric_suite
from diffussm.models.build import build_model
from diffussm.store.records import EvaluationKey, common_key


def extractor(name: str = "digits-cnn"):  # type: ignore[no-untyped-def]
    return Extractor(name, ["features", "logits"])


def trained_a_little(config: Config) -> torch.nn.Module:
    model = build_model(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=generator))
    return model.eval()


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("digits-cnn", 0.985),
        ("digits16-cnn", 0.985),
        ("mnist-cnn", 0.97),
        pytest.param("photos-cnn", 0.45, marks=pytest.mark.slow),
    ],
)
def test_shipped_extractors_are_small_and_accurate(name: str, least: float) -> None:
    assert registry.extractor_facts(name).weights.path().stat().st_size < 300_000
    assert train_extractor.accuracy(extractor(name).network.network, train_extractor.held_out(name)) > least


def test_the_features_distinguish_photographs() -> None:
    """Rotation is often not to be seen in a crop, the photograph is."""
    pixels, labels = (each[:1000] for each in train_extractor.held_out("photos-cnn"))
    found = extractor("photos-cnn").network.network(pixels)[1].argmax(1)
    assert (found // 4 == labels // 4).float().mean() > 0.85


def test_an_extractor_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_extractor, "EPOCHS", 3)
    assert train_extractor.accuracy(train_extractor.train("digits-cnn"), train_extractor.held_out("digits-cnn")) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("name", ["digits-cnn", "digits16-cnn", "mnist-cnn", "photos-cnn"])
def test_extractors_retrain_to_the_same_accuracy(name: str) -> None:
    """The command that made the shipped weights, run again: within one point on what was held out."""
    held_out = train_extractor.held_out(name)
    shipped = train_extractor.accuracy(extractor(name).network.network, held_out)
    assert train_extractor.accuracy(train_extractor.train(name), held_out) == pytest.approx(shipped, abs=0.01)


def test_the_digits_held_out_are_a_fifth() -> None:
    assert len(train_extractor.held_out("digits-cnn")[1]) == 360


def test_features_are_deterministic_whatever_the_company() -> None:
    pixels = reference_images("digits").pixels
    whole, again, part = extractor()(pixels), extractor()(pixels), extractor()(pixels[:10])
    np.testing.assert_array_equal(whole["features"], again["features"])
    np.testing.assert_allclose(whole["features"][:10], part["features"], atol=1e-5)
    assert whole["features"].shape == (1797, FEATURES)
    assert whole["logits"].shape == (1797, 10)


def test_wrong_weights_are_refused() -> None:
    with pytest.raises(UserError, match="expected 0000"):
        replace(registry.extractor_facts("digits-cnn").weights, sha256="0000").read()
    for name in ("digits-cnn", "digits16-cnn", "mnist-cnn", "photos-cnn"):
        assert registry.extractor_facts(name).weights.missing_requirement() == ""


def test_fid_equals_torch_fidelity_on_the_same_features() -> None:
    features = extractor()(reference_images("digits").pixels)["features"]
    a, b = features[:1000], features[500:1797] * 1.1 + 0.05
    oracle = fid_statistics_to_metric(
        fid_features_to_statistics(torch.from_numpy(a)), fid_features_to_statistics(torch.from_numpy(b)), verbose=False
    )
    ours = frechet_distance(Statistics.of(a), Statistics.of(b))
    assert ours == pytest.approx(oracle["frechet_inception_distance"], rel=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_fid_equals_the_formula(seed: int) -> None:
    generator = np.random.default_rng(seed)
    a, b = generator.normal(size=(60, 5)), generator.normal(1, 2, size=(70, 5)) @ generator.normal(size=(5, 5))
    sa, sb = np.cov(a.T), np.cov(b.T)
    root = sqrtm(sa @ sb).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(sa + sb - 2 * root)
    assert frechet_distance(Statistics.of(a), Statistics.of(b)) == pytest.approx(expected, rel=1e-8)
    assert frechet_distance(Statistics.of(b), Statistics.of(a)) == pytest.approx(expected, rel=1e-8)
    assert frechet_distance(Statistics.of(a), Statistics.of(a)) == pytest.approx(0, abs=1e-10 * np.trace(sa) + 1e-9)


def test_fid_of_known_gaussians() -> None:
    a = Statistics(np.zeros(2), np.diag([1.0, 4.0]))
    b = Statistics(np.array([3.0, 0.0]), np.diag([9.0, 0.0]))  # rank-deficient
    assert frechet_distance(a, b) == pytest.approx(9 + (1 - 3) ** 2 + (2 - 0) ** 2)


def test_noise_floor_falls_with_n_and_is_the_same_at_every_call() -> None:
    features = extractor()(reference_images("digits").pixels)["features"]
    floors = [noise_floor(features, n) for n in (250, 1000, 4000)]
    assert floors[0] > 2 * floors[1] > 4 * floors[2] > 0
    assert noise_floor(features, 1000) == floors[1]


@pytest.mark.parametrize("sampling", [{"sampler": "ddpm", "sampler_steps": 4}, {"sampler_steps": 4, "ddim_eta": 1.0}])
def test_noise_that_is_drawn_ahead_is_the_same(sampling: dict[str, Any]) -> None:
    config = tiny.config(**{f"evaluation__{field}": value for field, value in sampling.items()})
    model = trained_a_little(config)
    make, ahead = SampleMaker(config, model), SampleMaker(config, model)
    ahead._ahead = DRAWERS  # as on a GPU
    for start in (0, 5):
        np.testing.assert_array_equal(make(start, 5).pixels, ahead(start, 5).pixels)


def test_a_sample_depends_on_seed_and_index_alone() -> None:
    config = tiny.config(evaluation__sampler="ddpm", evaluation__sampler_steps=4)
    model = trained_a_little(config)
    whole = generate(config, model, 12)
    for batch in (1, 4, 12):
        other = config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"batch": batch})})
        again = generate(other, model, 12)
        np.testing.assert_array_equal(again.labels, whole.labels)
        assert np.abs(again.pixels.astype(int) - whole.pixels.astype(int)).max() <= 1  # a grey level of rounding
    np.testing.assert_array_equal(generate(config, model, 5).labels, whole.labels[:5])
    different = generate(config.model_copy(update={"seed": 1}), model, 12)
    assert (different.pixels != whole.pixels).any()


def test_labels_are_uniform_over_the_classes() -> None:
    config = resolve("digits", tiny.SETTINGS | {"evaluation.sampler_steps": 1, "evaluation.batch": 1000})
    labels = generate(config, lambda x, *_: torch.cat([x, x], 1), 5000).labels
    counts = np.bincount(labels, minlength=10)
    assert len(counts) == 10
    assert counts.min() > 400


@pytest.mark.parametrize("batch", [1, 7, 100])
def test_balanced_labels_are_equally_many_of_each_class_whatever_the_batch(batch: int) -> None:
    settings = {"evaluation.sampler_steps": 1, "evaluation.batch": batch, "evaluation.labels": "balanced"}
    config = resolve("digits", tiny.SETTINGS | settings)
    labels = generate(config, lambda x, *_: torch.cat([x, x], 1), 23).labels
    np.testing.assert_array_equal(np.bincount(labels, minlength=10), [3, 3, 3, 2, 2, 2, 2, 2, 2, 2])
    np.testing.assert_array_equal(labels, np.arange(23) % 10)


def test_a_key_of_before_was_measured_with_random_labels() -> None:
    """Records of before, whose key has no such field, keep their digest; balanced ones have another."""
    random, balanced = (evaluation_key(resolve("digits", {"evaluation.labels": way})) for way in ("random", "balanced"))
    before = random.model_dump(mode="json")
    del before["labels"]
    assert EvaluationKey.model_validate_json(json.dumps(before)).digest == random.digest != balanced.digest
    with pytest.raises(UserError, match=r"records differ in how they were measured \(labels\)"):
        common_key([random, balanced], "runs")


def test_a_suite_on_real_images_is_near_perfect() -> None:
    """Real digits in place of samples: accuracy as the classifier's, FID at the noise floor."""
    config = resolve("digits")
    suite = metric_suite(config.evaluation, evaluation_key(config))
    images = reference_images("digits")
    index = np.random.default_rng(0).integers(0, 1797, 1000)
    metrics = suite.measure_images(images.pixels[index], images.labels[index])
    assert metrics["label_accuracy"] > 0.99
    assert metrics["fid"] == pytest.approx(metrics["fid_floor"], rel=0.3)
    wrong = suite.measure_images(images.pixels[index], (images.labels[index] + 1) % 10)
    assert wrong["label_accuracy"] < 0.01


def test_samples_that_are_not_finite_are_an_error() -> None:
    images = torch.zeros(3, 1, 2, 2)
    images[1, 0, 0, 0] = float("inf")
    with pytest.raises(ValueError, match="sample 251 is not finite"):
        to_pixels(images, 250)
    assert to_pixels(torch.tensor([[[[-1.0, 1.0, 2.0, 0.0]]]])).tolist() == [[[[0, 255, 255, 128]]]]


@pytest.mark.parametrize("channels", [1, 3])
def test_sheet(channels: int) -> None:
    pixels = np.zeros((16, channels, 8, 8), dtype=np.uint8)
    pixels[9] = 200
    image = np.asarray(sheet(pixels))
    scale = image.shape[1] // (8 * 9)
    assert image.shape == (2 * 9 * scale, 8 * 9 * scale, 3)
    assert image[(9 + 4) * scale, (9 + 4) * scale].tolist() == [200, 200, 200]
    assert image[8 * scale, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize(("count", "rows"), [(3, 1), (8, 1), (9, 2)])
def test_a_sheet_shows_every_image(count: int, rows: int) -> None:
    image = np.asarray(sheet(np.full((count, 1, 8, 8), 7, dtype=np.uint8)))
    scale = image.shape[1] // (8 * 9)
    assert image.shape[0] == rows * 9 * scale
    assert (image == 7).sum() == count * 64 * scale**2 * 3


def test_grey_images_are_repeated_where_an_extractor_takes_colour() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (5, 1, 32, 32), dtype=np.uint8)
    colour = extractor("photos-cnn")
    np.testing.assert_array_equal(colour(grey)["features"], colour(grey.repeat(3, axis=1))["features"])
    config = resolve("photos", {"model.channels": 1, "evaluation.reference": "photos"})
    with pytest.raises(UserError, match="is for 3 x 32 x 32 images, but these are 1 x 32 x 32"):
        evaluation_key(config)


def test_guided_evaluation_differs(tmp_path: Path) -> None:
    config = tiny.config()
    model = trained_a_little(config)
    guided = tiny.config(evaluation__guidance=3.0)
    assert (generate(config, model, 12).pixels != generate(guided, model, 12).pixels).any()
