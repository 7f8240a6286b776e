"""clean-fid's metrics, on random weights, against the package itself."""

import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import cleanfid
import numpy as np
import pytest
import torch
from cleanfid.fid import fid_from_feats, get_files_features
from cleanfid.inception_torchscript import InceptionV3W
from PIL import Image
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

from diffussm.errors import UserError
from diffussm.metrics.features import clean_fid, registry
from diffussm.metrics.features.clean_fid import CleanFid
from diffussm.metrics.features.extractor import Extractor
from diffussm.metrics.features.weights_file import CLEAN_FID, WeightsFile
from diffussm.metrics.statistics.frechet import Statistics, frechet_distance
from tests.support import random_inception
from tests.support.frechet import frechet_of_few
from tests.support.image_sets import crops

pytestmark = pytest.mark.usefixtures("no_network")


class _Whole(nn.Module):
    """As clean-fid's file: `layers` of images 299 pixels per side in -1 .. 1, before them TensorFlow 1's resize."""

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
    one: the real file cannot be here. Its resize is traced for 32 pixels per side."""
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
    assert CleanFid.distance(a, b)[0] == pytest.approx(float(fid_from_feats(a, b)), rel=1e-6)
    assert CleanFid.distance(a, b)[0] == pytest.approx(frechet_distance(Statistics.of(a), Statistics.of(b)), rel=1e-5)


def test_clean_fid_s_weights_are_refused_by_their_hash(tmp_path: Path) -> None:
    (tmp_path / CLEAN_FID.name).write_bytes(b"another file")
    with pytest.raises(UserError, match="expected f58cb9b6"):
        CleanFid(("clean_fid",), str(tmp_path))


def test_extractors_run_on_cudnn_without_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    extractor, seen = Extractor("digits-cnn", ["features"]), []
    forward = extractor.network.forward
    cudnn = torch.backends.cudnn
    monkeypatch.setattr(
        extractor.network, "forward", lambda x: seen.append((cudnn.enabled, cudnn.allow_tf32)) or forward(x)
    )
    extractor(np.zeros((2, 1, 8, 8), dtype=np.uint8))
    assert seen == [(True, False)]
