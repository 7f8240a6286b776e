"""From how many samples on a metric is reliable, by the table; and the simulation that the table's numbers are from."""

import numpy as np
import pytest
import torch

from diffussm.data.load import reference_images
from diffussm.metric import LAYER_SIZES
from diffussm.metric_table import METRICS
from diffussm.metrics.features.extractor import Extractor
from diffussm.metrics.features.registry import EXTRACTORS
from diffussm.metrics.statistics.density_coverage import occupancy
from diffussm.metrics.statistics.kid import kernel_distance
from diffussm.metrics.statistics.precision_recall import precision_recall
from diffussm.store.records import EvaluationKey, unreliable


def key(samples: int, images: int = 1797, extractor: str = "digits-cnn") -> EvaluationKey:
    return EvaluationKey(
        extractor=extractor,
        extractor_sha256="",
        reference="digits",
        reference_sha256="",
        reference_samples=images,
        samples=samples,
        sampler="ddim",
        sampler_steps=10,
        guidance=1.0,
        clip=True,
        weights="ema",
        metrics=tuple(METRICS),
        transform="none",
    )


@pytest.mark.parametrize(
    ("metric", "least", "extractor"),
    [
        ("fid", 64, "digits-cnn"),
        ("fid", 2048, "inception-v3-compat"),
        ("sfid", 112, "digits16-cnn"),
        ("sfid", 343, "mnist-cnn"),
        ("sfid", 448, "photos-cnn"),
        ("sfid", 2023, "inception-v3-compat"),
        ("inception_score", 100, "digits-cnn"),
        ("inception_score", 10_080, "inception-v3-compat"),
        ("kid", 200, "digits-cnn"),
        ("precision", 100, "digits-cnn"),
        ("recall", 200, "digits-cnn"),
        ("density", 100, "digits-cnn"),
        ("coverage", 899, "digits-cnn"),
        ("label_accuracy", 100, "digits-cnn"),
        ("clean_fid", 2048, "inception-v3-compat"),
        ("clean_fid_legacy", 2048, "inception-v3-compat"),
    ],
)
def test_the_least_number_of_samples(metric: str, least: int, extractor: str) -> None:
    images = 1797 if extractor == "digits-cnn" else 10_000
    assert not key(least, images, extractor).unreliability(metric)
    why = key(least - 1, images, extractor).unreliability(metric)
    assert why == f"n = {least - 1:,}, below {least:,}: {METRICS[metric].unreliable}"


def test_the_reference_s_images_count_too() -> None:
    assert key(1000, 199).unreliability("kid").startswith("199 images of the reference, below 200: ")
    assert not key(1000, 200).unreliability("kid")
    assert not key(1000, 0).unreliability("fid")  # statistics alone


def test_of_another_extractor_the_number_of_features_is_unknown() -> None:
    assert not key(60, extractor="mine:NET").unreliability("fid")
    assert key(60, extractor="mine:NET").unreliability("kid")


def test_every_metric_says_what_fewer_give() -> None:
    assert [*unreliable(key(1), METRICS)] == list(METRICS)
    assert all(metric.unreliable for metric in METRICS.values())
    assert [*unreliable(key(1000), METRICS)] == ["clean_fid", "clean_fid_legacy"]  # n of the base digits


@pytest.mark.parametrize("name", ["digits-cnn", "digits16-cnn", "mnist-cnn", "photos-cnn"])
def test_sizes_of_layers(name: str) -> None:
    facts = EXTRACTORS[name]
    assert facts.image_size is not None
    image = np.zeros((1, facts.channels, facts.image_size, facts.image_size), dtype=np.uint8)
    found = Extractor(name, ["features", "spatial", "logits"])(image)
    assert LAYER_SIZES[name] == {layer: array.shape[1] for layer, array in found.items()}
    assert LAYER_SIZES.keys() == EXTRACTORS.keys()


@pytest.mark.slow
def test_the_simulation() -> None:
    """Of real digits against others, and of the same with noise of 25 grey levels: means over 12 draws."""
    torch.manual_seed(0)
    pixels = reference_images("digits").pixels
    extractor = Extractor("digits-cnn", ["features"])
    noise = np.random.default_rng(0).normal(0, 25, pixels.shape)
    real = extractor(pixels)["features"]
    noisy = extractor(np.clip(pixels + noise, 0, 255).astype(np.uint8))["features"]
    generator, half = np.random.default_rng(1), len(real) // 2

    def measured(n: int) -> dict[str, np.ndarray]:
        rows = []
        for _ in range(12):
            order = generator.permutation(len(real))
            reference, chosen = real[order[:half]], order[half : half + n]
            filled = occupancy(real[chosen], reference).samples_per_ball > 0
            recall = precision_recall(real[chosen], reference)[1]
            kid = (kernel_distance(features[chosen], reference)[0] for features in (real, noisy))
            rows.append((filled.mean(), recall, *kid))
        return dict(zip(("coverage", "recall", "kid", "kid_of_noisy"), np.array(rows).T, strict=True))

    by_n = {n: measured(n) for n in (30, 60, 100, 200, 500, half)}
    for n, expected in ((60, 0.28), (500, 0.89), (half, 0.97)):
        assert by_n[n]["coverage"].mean() == pytest.approx(expected, abs=0.02)
    for n, expected in ((30, 0.96), (100, 0.91), (200, 0.89), (half, 0.89)):
        assert by_n[n]["recall"].mean() == pytest.approx(expected, abs=0.02)
    effect = by_n[half]["kid_of_noisy"].mean()
    assert by_n[60]["kid"].std() > 0.6 * effect
    assert by_n[200]["kid"].std() < 0.6 * effect
