"""Reference files of other people: what is wrong with one is said without reading its arrays."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from diffussm.data.catalogue import IS_PICKLE
from diffussm.metrics.features.registry import extractor_facts
from diffussm.metrics.reference.facts import reference_facts
from diffussm.metrics.reference.file import ReferenceFile
from diffussm.metrics.reference.gaussian import stated_gaussian
from diffussm.metrics.requirements import unsupported_metrics
from tests.support.image_sets import images, in_file, npy, zipped

IMAGES = npy(in_file(images(4, (3, 4, 4))))


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ({"arr_0.npy": b""}, "arr_0: is damaged (its .npy header cannot be parsed)"),
        ({"arr_0.npy": IMAGES[:-1]}, "arr_0: is damaged (319 bytes; its header says an array of shape (4, 4, 4, 3)"),
        ({"arr_0.npy": IMAGES, "README.txt": b"of these"}, "README.txt: is damaged (its .npy header cannot be parsed)"),
        ({"arr_0.npy": npy(np.array([None]))}, "arr_0: holds Python objects"),
        ({"arr_0.npy": npy(np.zeros((4, 4, 4, 3)))}, "arr_0 is <f8 of shape (4, 4, 4, 3), not uint8"),
    ],
)
def test_what_is_wrong(tmp_path: Path, members: dict[str, bytes], problem: str) -> None:
    zipped(tmp_path / "a.npz", members)
    assert ReferenceFile(tmp_path / "a.npz").problem().startswith(problem)


def test_no_archive(tmp_path: Path) -> None:
    file = ReferenceFile(tmp_path / "a.npz")
    assert file.problem() == "no such file"
    (tmp_path / "a.npz").write_bytes(IMAGES)
    assert file.problem() == "is damaged or not an .npz file (File is not a zip file)"


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_sound(tmp_path: Path, method: int) -> None:
    zipped(tmp_path / "a.npz", {"arr_0.npy": IMAGES}, method)
    file = ReferenceFile(tmp_path / "a.npz")
    assert (file.problem(), file.images, file.image_shape, file.kind) == ("", 4, (3, 4), "images")


GAUSSIAN = {"mu": np.arange(3.0), "sigma": np.diag([1.0, 2.0, 3.0])}


def test_a_file_of_adm(tmp_path: Path) -> None:
    """Its statistics of CLIP's features are passed over."""
    spatial = {"mu_s": np.ones(5), "sigma_s": np.eye(5)}
    clip = {"mu_clip": np.full(7, np.nan), "sigma_clip": np.zeros((7, 2, 2))}
    np.savez(tmp_path / "VIRTUAL_imagenet512.npz", in_file(images(4, (3, 4, 4))), **GAUSSIAN, **spatial, **clip)
    file = ReferenceFile(tmp_path / "VIRTUAL_imagenet512.npz")
    assert (file.problem(), file.images, file.kind, file.layers) == ("", 4, "statistics", ("features", "spatial"))
    np.testing.assert_array_equal(stated_gaussian(file.path, "features").mean, GAUSSIAN["mu"])
    np.testing.assert_array_equal(stated_gaussian(file.path, "spatial").covariance, np.eye(5))


def test_mean_and_covariance_alone(tmp_path: Path) -> None:
    """As MAR's `adm_in256_stats.npz`."""
    np.savez(tmp_path / "stats.npz", **GAUSSIAN)
    known = reference_facts(str(tmp_path / "stats.npz"))
    assert (known.kind, known.images, known.layers, known.shape) == ("statistics", 0, ("features",), None)
    refused = unsupported_metrics(extractor_facts("inception-v3-compat"), known, 50_000)
    assert not {"fid", "inception_score"} & refused.keys()
    assert refused["sfid"] == "needs mu_s and sigma_s besides mu and sigma, which stats does not have"
    assert refused["precision"].endswith("of the reference, but stats has none")


@pytest.mark.parametrize("name", ["img512.pkl", "IMG.PKL", "a.pickle"])
def test_a_pickle_is_not_opened(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"cos\nsystem\n(S'touch opened'\ntR.")
    assert ReferenceFile(tmp_path / name).problem() == IS_PICKLE
    assert len(list(tmp_path.iterdir())) == 1
