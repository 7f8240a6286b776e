"""Inception's path end to end, on random weights, against torch-fidelity's own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_fidelity import calculate_metrics
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from diffussm.data.pixels import ArrayPixels, open_pixels, write_npz
from diffussm.errors import UserError
from diffussm.metrics.external import evaluate_external, external_config
from diffussm.metrics.features import registry
from diffussm.metrics.features.extractor import Extractor
from diffussm.metrics.features.registry import ExtractorFacts
from diffussm.metrics.statistics.inception_score import inception_score
from diffussm.store.records import Record
from tests.support import forked, random_inception
from tests.support.bomb import Bomb
from tests.support.frechet import frechet_of_few
from tests.support.image_sets import crops

pytestmark = pytest.mark.usefixtures("no_network")

Pixels = NDArray[np.uint8]


class Tensors(torch.utils.data.Dataset):
    """For torch-fidelity: uint8 (C, H, W) each."""

    def __init__(self, pixels: Pixels):
        self.pixels = torch.from_numpy(pixels)

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> Tensor:
        return self.pixels[index]


@pytest.fixture
def extractor(weights: Path, request: pytest.FixtureRequest) -> Iterator[ExtractorFacts]:
    """Known by name while a test runs; the layer of its features is the parameter, 64 if there is none."""
    facts = random_inception.facts(weights, getattr(request, "param", "64"))
    registry.register(facts)
    yield facts
    del registry.EXTRACTORS[facts.name]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFUSSM_CACHE", str(tmp_path / "cache"))


def stored(path: Path, pixels: Pixels) -> Path:
    write_npz(path, pixels.shape[1:], len(pixels), [pixels])
    return path


def theirs(weights: Path, samples: Pixels, reference: Pixels, **settings: Any) -> dict[str, float]:
    return calculate_metrics(
        input1=Tensors(samples),
        input2=Tensors(reference),
        feature_extractor="inception-v3-compat",
        feature_extractor_weights_path=str(weights),
        samples_shuffle=False,
        cuda=False,
        save_cpu_ram=True,  # also: no workers
        verbose=False,
        **settings,
    )


def measured(pixels: Any, *how: Any) -> Record:
    return evaluate_external(pixels, external_config(pixels, *how))


# torch-fidelity


def test_an_evaluation_by_an_early_layer_is_torch_fidelity_s(
    weights: Path, extractor: ExtractorFacts, tmp_path: Path
) -> None:
    samples, reference = crops(30, 0), crops(26, 1)
    record = measured(
        open_pixels(stored(tmp_path / "samples.npz", samples)),
        str(stored(tmp_path / "reference.npz", reference)),
        extractor.name,
        ("fid", "kid", "precision", "recall"),
    )
    layers = {f"feature_layer_{metric}": "64" for metric in ("fid", "kid", "prc")}
    expected = theirs(weights, samples, reference, fid=True, kid=True, prc=True, kid_subset_size=13, **layers)
    found = record.metrics
    assert found["fid"] == pytest.approx(expected["frechet_inception_distance"], rel=1e-4)
    assert found["kid"] == pytest.approx(expected["kernel_inception_distance_mean"], rel=1e-4)
    assert found["precision"] == pytest.approx(expected["precision"], abs=1e-6)
    assert found["recall"] == pytest.approx(expected["recall"], abs=1e-6)
    assert 0 < found["precision"] < 1
    assert found["precision"] != pytest.approx(found["recall"], abs=0.02)  # one cannot stand for the other


def test_deep_layers_are_those_of_the_plain_network(weights: Path, extractor: ExtractorFacts) -> None:
    """Logits without bias, for IS in order; mixed_6/conv, the output of Mixed_6d.branch1x1, flattened H, W, C."""
    sets = crops(5, 0), crops(4, 1)
    plain = FeatureExtractorInceptionV3("plain", ["logits_unbiased"], feature_extractor_weights_path=str(weights))
    kept: list[NDArray[np.float32]] = []
    plain.Mixed_6d.branch1x1.register_forward_hook(lambda _module, _args, output: kept.append(output.numpy().copy()))
    with torch.no_grad():
        logits = [plain(torch.from_numpy(pixels))[0].numpy() for pixels in sets]
    assert kept[0].shape == (5, 192, 17, 17)
    flat = [np.transpose(layer[:, :7], (0, 2, 3, 1)).reshape(len(layer), -1) for layer in kept]
    found = [Extractor(extractor.name, ["spatial", "logits"])(pixels) for pixels in sets]
    for layers, expected_spatial, expected_logits in zip(found, flat, logits, strict=True):
        np.testing.assert_allclose(layers["spatial"], expected_spatial, atol=1e-5)
        np.testing.assert_allclose(layers["logits"], expected_logits, atol=1e-3)
        wrong_order = kept[0][:, :7].reshape(len(kept[0]), -1)
        assert not np.allclose(found[0]["spatial"], wrong_order, atol=0.1)
    mixed = frechet_of_few(flat[0], kept[1][:, :7].reshape(4, -1))  # the reference in the wrong order
    assert mixed != pytest.approx(frechet_of_few(*flat), rel=0.05)


@pytest.mark.slow
def test_sfid_is_the_distance_of_the_plain_network_s_layer(
    weights: Path, extractor: ExtractorFacts, tmp_path: Path
) -> None:
    samples, reference = crops(30, 0), crops(26, 1)
    kept: list[NDArray[np.float32]] = []
    plain = FeatureExtractorInceptionV3("plain", ["768"], feature_extractor_weights_path=str(weights))
    plain.Mixed_6d.branch1x1.register_forward_hook(lambda _module, _args, output: kept.append(output.numpy().copy()))
    with torch.no_grad():
        for pixels in (samples, reference):
            plain(torch.from_numpy(pixels))
    flat = [np.transpose(layer[:, :7], (0, 2, 3, 1)).reshape(len(layer), -1) for layer in kept]
    path = stored(tmp_path / "reference.npz", reference)
    record = measured(ArrayPixels(samples), str(path), extractor.name, ("sfid",))
    print(f"sFID {record.metrics['sfid']:.8g}, by NumPy {frechet_of_few(*flat):.8g}")
    assert record.metrics["sfid"] == pytest.approx(frechet_of_few(*flat), rel=1e-4)


def test_the_inception_score_of_images_is_torch_fidelity_s(weights: Path, extractor: ExtractorFacts) -> None:
    samples = crops(6, 0)
    expected = theirs(weights, samples, samples, isc=True, isc_splits=1)["inception_score_mean"]
    assert inception_score(Extractor(extractor.name, ["logits"])(samples)["logits"])[0] == pytest.approx(
        expected, rel=1e-4
    )
    assert expected > 1.5


@pytest.mark.slow
@pytest.mark.parametrize("extractor", ["2048"], indirect=True)
def test_an_evaluation_of_500_images_is_torch_fidelity_s(
    weights: Path, extractor: ExtractorFacts, tmp_path: Path
) -> None:
    """At full width; -s prints the figures."""
    samples, reference = crops(500, 0), crops(500, 1)
    record = measured(
        ArrayPixels(samples),
        str(stored(tmp_path / "reference.npz", reference)),
        extractor.name,
        ("fid", "inception_score", "kid", "precision", "recall"),
    )
    every = dict.fromkeys(("isc", "fid", "kid", "prc"), True)
    expected = theirs(weights, samples, reference, isc_splits=1, kid_subset_size=250, **every)
    names = {
        "fid": "frechet_inception_distance",
        "inception_score": "inception_score_mean",
        "kid": "kernel_inception_distance_mean",
        "precision": "precision",
        "recall": "recall",
    }
    for ours, their_name in names.items():
        print(f"{ours}: {record.metrics[ours]:.8g}, torch-fidelity {expected[their_name]:.8g}")
    for ours, their_name in names.items():
        assert record.metrics[ours] == pytest.approx(expected[their_name], rel=1e-4), ours


@pytest.mark.parametrize("layers", [["64"], ["64", "spatial"], ["spatial"], ["spatial", "192"]])
def test_any_layers_can_be_asked_for(weights: Path, layers: list[str]) -> None:
    from diffussm.metrics.features.inception import Inception

    network = Inception("random", layers, feature_extractor_weights_path=str(weights))
    with torch.no_grad():
        found = network(torch.from_numpy(crops(1, 1)))
    sizes = {"64": 64, "192": 192, "spatial": 2023}
    assert [out.shape for out in found] == [(1, sizes[layer]) for layer in layers]
    assert network.features_list == layers


# another process


def evaluated(samples: Path, reference: Path, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "diffussm", "evaluate", str(samples), "--reference", str(reference), *options]
    environment = os.environ | {"PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1"} | variables
    return forked.run(command, cwd=Path.cwd(), env=environment)


def test_the_shell_takes_an_extractor_from_outside(weights: Path, tmp_path: Path) -> None:
    samples, reference = stored(tmp_path / "samples.npz", crops(8, 0)), stored(tmp_path / "ref.npz", crops(8, 1))
    by = ["--extractor", "tests.support.random_inception:FACTS_64", "--metrics", "fid,kid"]
    done = evaluated(samples, reference, *by, **{random_inception.ENVIRONMENT: str(weights)})
    assert done.returncode == 0, done.stderr
    assert "fid" in done.stdout.lower()
    refused = evaluated(samples, reference, *by)
    assert refused.returncode == 2
    assert len(refused.stderr.strip().splitlines()) == 1
    assert random_inception.ENVIRONMENT in refused.stderr


def test_weights_of_another_hash_are_never_unpickled(tmp_path: Path) -> None:
    marker, planted = tmp_path / "unpickled", tmp_path / registry.INCEPTION.name
    torch.save(Bomb(marker), planted)
    facts = registry.extractor_facts("inception-v3-compat")
    with pytest.raises(UserError, match=r"expected 6726825d"):
        facts.weights.read(str(planted))
    with pytest.raises(UserError, match=r"expected 6726825d"):
        Extractor(facts.name, ["features"], str(planted))
    samples = stored(tmp_path / "samples.npz", crops(8, 0))
    done = evaluated(samples, samples, "--extractor", facts.name, "--extractor-weights", str(tmp_path))
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "6726825d" in done.stderr
    assert not marker.exists()
    torch.load(planted, weights_only=False)  # what would have happened
    assert marker.exists()
