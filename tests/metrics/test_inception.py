"""Inception's path end to end, on random weights, against torch-fidelity's and clean-fid's own."""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cleanfid
import numpy as np
import pytest
import torch
from cleanfid.fid import fid_from_feats, get_files_features
from cleanfid.inception_torchscript import InceptionV3W
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch_fidelity import calculate_metrics
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

from diffussm.data.photos import Crops
from diffussm.data.pixels import ArrayPixels, open_pixels, write_npz
from diffussm.errors import UserError
from diffussm.metrics.external import evaluate_external, external_config
from diffussm.metrics.features import clean_fid, registry
from diffussm.metrics.features.clean_fid import CleanFid
from diffussm.metrics.features.extractor import Extractor
from diffussm.metrics.features.registry import ExtractorFacts
from diffussm.metrics.features.weights_file import CLEAN_FID, WeightsFile
from diffussm.metrics.statistics.frechet import Statistics, frechet_distance
from diffussm.metrics.statistics.inception_score import inception_score
from diffussm.store.records import Record
from tests.support import forked, random_inception

Pixels = NDArray[np.uint8]


class Tensors(torch.utils.data.Dataset):
    """For torch-fidelity: uint8 (C, H, W) each."""

    def __init__(self, pixels: Pixels):
        self.pixels = torch.from_numpy(pixels)

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> Tensor:
        return self.pixels[index]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_inception.write(tmp_path_factory.mktemp("weights"))


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


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = socket.socket.connect

    def refuse(connecting: socket.socket, address: Any) -> None:
        assert connecting.family == socket.AF_UNIX, "the network was asked"
        connect(connecting, address)

    monkeypatch.setattr(socket.socket, "connect", refuse)


def crops(count: int, seed: int) -> Pixels:
    """Samples, seed 0: of the training bands and paler; reference: of the others."""
    pixels = Crops(training=not seed).take(seed, 0, count)[0]
    return pixels if seed else (pixels * 0.75 + 50).astype(np.uint8)


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


def frechet_of_few(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """From features (n, d), (m, d): the trace of the root of S_a S_b is the nuclear norm of A B^T, deviations over the
    roots of n - 1 and m - 1. Exact, and cheap where n and m are far below d."""
    exact = [x.astype(np.float64) for x in (a, b)]
    x, y = ((part - part.mean(0)) / (len(part) - 1) ** 0.5 for part in exact)
    mean_difference = exact[0].mean(0) - exact[1].mean(0)
    return float(mean_difference @ mean_difference + (x**2).sum() + (y**2).sum() - 2 * np.linalg.norm(x @ y.T, "nuc"))


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


# weights that are others than they should be


class Bomb:
    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


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


# clean-fid


class _Whole(nn.Module):
    """As clean-fid's file: `layers` of images 299 pixels a side in -1 .. 1, before them TensorFlow 1's resize."""

    def __init__(self, layers: nn.Module, resize: nn.Module):
        super().__init__()
        self.layers, self.resize = layers, resize

    def forward(self, x: Tensor, return_features: bool = True) -> Tensor:
        assert return_features
        return self.layers((self.resize(x) - 128) / 128)


class _Resize(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return interpolate_bilinear_2d_like_tensorflow1x(x, size=(299, 299), align_corners=False)


@pytest.fixture
def scripted(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a file in the form of clean-fid's, of the same random weights, whose hash is taken for the known
    one: the real file cannot be here. Its resize is traced for 32 pixels a side."""
    plain = FeatureExtractorInceptionV3("plain", ["2048"], feature_extractor_weights_path=str(weights))
    layers = nn.Sequential(*list(plain.children())[:-1], nn.Flatten()).eval()  # all but the classifier, in order
    path = tmp_path / "scripted" / CLEAN_FID.name
    path.parent.mkdir()
    with torch.no_grad():
        resize = torch.jit.trace(_Resize(), torch.zeros(2, 3, 32, 32))
        traced = torch.jit.trace(layers, torch.zeros(1, 3, 299, 299), check_trace=False)
        torch.jit.script(_Whole(traced, resize)).save(str(path))
    known: WeightsFile = replace(CLEAN_FID, sha256=random_inception.facts(path).weights.sha256)
    monkeypatch.setattr(clean_fid, "CLEAN_FID", known)
    return path.parent


def listed(*folders: Path) -> set[tuple[str, str]]:
    return {(str(folder), name) for folder in folders for name in os.listdir(folder)}


@pytest.mark.filterwarnings(
    "ignore:`torch.jit", "ignore:To copy construct", "ignore::torch.jit.TracerWarning", "ignore:'mode' parameter"
)
def test_clean_fid_is_clean_fid_s(weights: Path, scripted: Path, tmp_path: Path) -> None:
    """In mode legacy_tensorflow our own features too, in mode clean others; nothing is left lying about."""
    package, shared = Path(cleanfid.__file__).parent, Path(tempfile.gettempdir())
    before = listed(package)
    sets = crops(3, 0), crops(3, 1)
    found = [CleanFid(("clean_fid", "clean_fid_legacy"), str(scripted))(pixels) for pixels in sets]
    assert listed(package) == before
    assert not [name for _, name in listed(shared) if name.startswith("inception-2015")]
    registry.register(facts := random_inception.facts(weights))
    try:
        ours = [Extractor(facts.name, ["features"])(pixels)["features"] for pixels in sets]
    finally:
        del registry.EXTRACTORS[facts.name]
    for layers, features in zip(found, ours, strict=True):
        np.testing.assert_allclose(layers["clean_fid_legacy"], features, atol=1e-3)
    legacy, clean = (frechet_of_few(*(layers[name] for layers in found)) for name in ("clean_fid_legacy", "clean_fid"))
    assert legacy == pytest.approx(frechet_of_few(*ours), rel=1e-3)
    assert clean != pytest.approx(legacy, rel=0.02)
    files = []
    for index, image in enumerate(sets[0]):
        Image.fromarray(image.transpose(1, 2, 0)).save(tmp_path / f"{index}.png")
        files.append(str(tmp_path / f"{index}.png"))
    for mode, name in (("clean", "clean_fid"), ("legacy_tensorflow", "clean_fid_legacy")):
        network = InceptionV3W(str(scripted), download=False, resize_inside=mode != "clean")
        settings: dict[str, Any] = {"num_workers": 0, "device": torch.device("cpu"), "verbose": False}
        expected = get_files_features(files, network, mode=mode, **settings)
        np.testing.assert_allclose(found[0][name], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.filterwarnings("ignore:The `disp` argument is deprecated")  # until SciPy 1.18, which is kept out
def test_clean_fid_s_distance() -> None:
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(60, 9)).astype(np.float32), generator.normal(0.4, 2, (50, 9)).astype(np.float32)
    assert CleanFid.distance(a, b) == pytest.approx(float(fid_from_feats(a, b)), rel=1e-6)
    assert CleanFid.distance(a, b) == pytest.approx(frechet_distance(Statistics.of(a), Statistics.of(b)), rel=1e-5)


def test_clean_fid_s_weights_are_refused_by_their_hash(tmp_path: Path) -> None:
    (tmp_path / CLEAN_FID.name).write_bytes(b"another file")
    with pytest.raises(UserError, match="expected f58cb9b6"):
        CleanFid(("clean_fid",), str(tmp_path))
