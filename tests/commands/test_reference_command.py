"""`diffussm reference`, and evaluation against what it builds or what others built."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from diffussm.data.load import reference_images
from diffussm.metrics.features.extractor import Extractor
from diffussm.metrics.reference.file import ReferenceFile
from diffussm.metrics.statistics.frechet import Moments
from diffussm.store import records
from tests.support.evaluating import DIGITS, Run, assert_error


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    return reference_images("digits").pixels


@pytest.fixture(scope="module")
def samples(digits: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Blurred digits, as ADM has samples."""
    path = tmp_path_factory.mktemp("samples") / "samples.npz"
    blurred = (digits[:120].astype(int) + np.roll(digits[:120], 1, 3)) // 2
    np.savez(path, arr_0=blurred.astype(np.uint8).transpose(0, 2, 3, 1))
    return path


@pytest.fixture
def built(diffussm: Run, tmp_path: Path) -> Path:
    path = tmp_path / "built" / "digits.npz"
    code, out, _ = diffussm("reference", "build", "digits", path)
    assert (code, out) == (0, f"{path}\n")
    return path


def record_of(diffussm: Run, samples: Path, *arguments: Any) -> records.Record:
    code, out, err = diffussm("evaluate", samples, "--json", *arguments)
    assert code == 0, err
    (found,) = json.loads(out)
    found.pop("path")
    return records.Record.model_validate_json(json.dumps(found))


def photographs(folder: Path, count: int = 5) -> Path:
    (folder / "sub").mkdir(parents=True)
    generator = np.random.default_rng(0)
    for i in range(count):
        image = Image.fromarray(generator.integers(0, 256, (40 + i, 50, 3), dtype=np.uint8))
        image.save(folder / ("sub" if i % 2 else ".") / f"{i}.{'jpg' if i < 3 else 'png'}")
    return folder


def test_a_data_set_and_the_reference_built_of_it_measure_the_same(built: Path, samples: Path, diffussm: Run) -> None:
    metrics = ("--metrics", "fid,sfid,precision,recall")
    of_images = record_of(diffussm, samples, *DIGITS, *metrics)
    of_statistics = record_of(diffussm, samples, "--reference", built, *metrics)  # it states its extractor
    assert of_images.key.reference_kind == "images"
    assert of_statistics.key.reference_kind == "statistics"
    assert of_statistics.key.extractor == "digits-cnn"
    assert of_statistics.key.reference_samples == 1797
    assert of_images.metrics.keys() == of_statistics.metrics.keys() >= {"fid", "sfid", "precision", "recall"}
    for name, value in of_images.metrics.items():
        assert of_statistics.metrics[name] == pytest.approx(value, rel=1e-9), name
    assert of_images.metrics["fid"] > 1


def test_the_same_bytes_again(built: Path, tmp_path: Path, diffussm: Run) -> None:
    again = tmp_path / "digits.npz"
    assert diffussm("reference", "build", "digits", again)[0] == 0
    assert again.read_bytes() == built.read_bytes()
    assert diffussm("reference", "compare", built, again)[1].splitlines()[-1] == "the files have the same content"
    assert [path.name for path in built.parent.iterdir()] == ["digits.npz"]  # nothing beside it


def test_show(built: Path, diffussm: Run) -> None:
    code, out, err = diffussm("reference", "show", built)
    assert (code, err) == (0, "")
    for words in (ReferenceFile(built).sha256, "arr_0      |u1 (1797, 8, 8, 1)", "samples: 1797", "transform: none"):
        assert words in out
    assert "extractor: digits-cnn" in out


def test_fewer_images_are_chosen_at_random_and_the_statistics_stay(
    built: Path, tmp_path: Path, digits: np.ndarray, diffussm: Run
) -> None:
    few = tmp_path / "few.npz"
    assert diffussm("reference", "build", "digits", few, "--images", "50")[0] == 0
    with np.load(few) as small, np.load(built) as whole:
        assert small["arr_0"].shape == (50, 8, 8, 1)
        for name in ("mu", "sigma", "mu_s", "sigma_s"):
            np.testing.assert_array_equal(small[name], whole[name])
        found = [(digits == image.transpose(2, 0, 1)).all((1, 2, 3)).argmax() for image in small["arr_0"]]
    assert found == sorted(set(found))  # different ones, in order
    assert found[25] > 500  # from everywhere
    code, out, _ = diffussm("reference", "compare", built, few)
    assert code == 0
    assert "features: Frechet distance" in out
    assert "images: 1797 and 50" in out
    assert out.splitlines()[-1].startswith("the files differ")


def test_without_statistics_or_without_images(tmp_path: Path, samples: Path, diffussm: Run) -> None:
    images, statistics = tmp_path / "images.npz", tmp_path / "statistics.npz"
    assert diffussm("reference", "build", "digits", images, "--no-statistics")[0] == 0
    assert diffussm("reference", "build", "digits", statistics, "--images", "0")[0] == 0
    with np.load(images) as file:
        assert set(file) == {"arr_0", "arr_1", "diffussm"}
    with np.load(statistics) as file:
        assert set(file) == {"mu", "sigma", "mu_s", "sigma_s", "diffussm"}
    by_images = record_of(diffussm, samples, "--reference", images, *DIGITS[2:], "--metrics", "fid")
    assert by_images.key.reference_kind == "images"
    by_statistics = record_of(diffussm, samples, "--reference", statistics)
    assert by_statistics.key.reference_samples == 0
    assert {"fid", "sfid"} <= by_statistics.metrics.keys()
    assert not {"precision", "recall", "kid", "fid_floor"} & by_statistics.metrics.keys()
    assert by_statistics.metrics["fid"] == pytest.approx(by_images.metrics["fid"], rel=1e-9)
    given = ("evaluate", samples, "--reference", statistics, "--metrics")
    for metric in ("precision", "recall", "kid"):
        assert_error(diffussm(*given, metric), f"evaluation.metrics: {metric} needs at least 4 images of the reference")
    assert_error(
        diffussm("reference", "build", "digits", tmp_path / "empty.npz", "--images", "0", "--no-statistics"),
        "would hold neither",
    )
    for option in (("--extractor", "digits-cnn"), ("--extractor-weights", "/nope")):
        unread = diffussm("reference", "build", "digits", tmp_path / "empty.npz", "--no-statistics", *option)
        assert_error(unread, f"{' '.join(option)}: not used with --no-statistics")
    unread = diffussm("reference", "build", "digits", tmp_path / "empty.npz", "--extractor-weights", "/nope")
    assert_error(unread, "--extractor-weights /nope: digits-cnn comes with its weights")
    assert not (tmp_path / "empty.npz").exists()
    assert_error(diffussm("reference", "compare", images, statistics), "no statistics in common")


def test_a_folder_of_photographs(tmp_path: Path, diffussm: Run) -> None:
    folder, out = photographs(tmp_path / "photographs"), tmp_path / "photographs.npz"
    given = ("reference", "build", folder, out, "--extractor", "photos-cnn")
    assert_error(diffussm(*given), "--image-size")
    assert_error(diffussm(*given, "--image-size", "8"), "is for 3 x 32 x 32 images, but")
    code, _, err = diffussm(*given, "--image-size", "32", "--images", "3")
    assert code == 0
    assert err.splitlines()[-1] == f"{folder}: 5 images taken; left out: nothing; stored: 3"
    with np.load(out) as file:
        assert file["arr_0"].shape == (3, 32, 32, 3)
    assert ReferenceFile(out).metadata["transform"] == "centre-crop 32"
    assert ReferenceFile(out).metadata["samples"] == 5
    none = tmp_path / "none.npz"
    assert diffussm("reference", "build", folder, none, *given[4:], "--image-size", "32", "--images", "0")[0] == 0
    assert ReferenceFile(none).images == 0
    assert "skipped" not in ReferenceFile(none).metadata
    (folder / ".cache").mkdir()
    (folder / ".cache" / "9.JPG").write_bytes(b"no photograph")
    (folder / "sub" / "a.svg").touch()
    given = (*given[:3], few := tmp_path / "few.NPZ", *given[4:])
    code, _, err = diffussm(*given, "--image-size", "32", "--images", "0")
    assert code == 0
    skipped = "1 in hidden folders, 1 with other suffixes (.svg)"
    assert err.splitlines()[-1] == f"{folder}: 5 images taken; left out: {skipped}; stored: 0"
    assert ReferenceFile(few).metadata["skipped"] == skipped
    with np.load(few) as file, np.load(none) as other:
        np.testing.assert_array_equal(file["mu"], other["mu"])
    few.unlink()
    (folder / "sub" / "x.jpg").write_bytes(b"no photograph")
    assert_error(diffussm("reference", "build", folder, tmp_path / "x.npz", *given[4:], "--image-size", "32"), "x.jpg")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["none.npz", "photographs", "photographs.npz"]


def test_an_npz(tmp_path: Path, samples: Path, digits: np.ndarray, diffussm: Run) -> None:
    source, out = tmp_path / "all.npz", tmp_path / "out.npz"
    np.savez_compressed(source, arr_0=digits.transpose(0, 2, 3, 1))
    assert diffussm("reference", "build", source, out, "--extractor", "digits-cnn")[0] == 0
    assert "transform" not in ReferenceFile(out).metadata  # it is not known
    found = record_of(diffussm, samples, "--reference", out, "--metrics", "fid")
    assert found.key.transform == "unknown"
    expected = record_of(diffussm, samples, *DIGITS, "--metrics", "fid")
    assert found.metrics["fid"] == pytest.approx(expected.metrics["fid"], rel=1e-9)
    again = tmp_path / "again.npz"
    assert diffussm("reference", "build", out, again)[0] == 0  # by the extractor that it states
    with np.load(out) as a, np.load(again) as b:
        np.testing.assert_array_equal(a["mu"], b["mu"])


@pytest.mark.parametrize("layers", [("features",), ("features", "spatial")])
def test_one_as_adm_writes_it(
    layers: tuple[str, ...], tmp_path: Path, samples: Path, digits: np.ndarray, diffussm: Run
) -> None:
    """By numpy.savez, with no word on its origin."""
    found = Extractor("digits-cnn", layers)(digits)
    arrays: dict[str, Any] = {"arr_0": digits.transpose(0, 2, 3, 1)}
    for layer, names in zip(layers, (("mu", "sigma"), ("mu_s", "sigma_s")), strict=False):
        arrays |= dict(zip(names, Moments.of(found[layer]).statistics, strict=True))
    path = tmp_path / "adm.npz"
    np.savez(path, **arrays)
    assert "Its origin is not recorded." in diffussm("reference", "show", path)[1]
    given = ("--reference", path, "--extractor", "digits-cnn")
    record = record_of(diffussm, samples, *given, *(["--metrics", "fid,sfid"] if "spatial" in layers else []))
    assert record.key.reference_kind == "statistics"
    expected = record_of(diffussm, samples, *DIGITS, "--metrics", "fid,sfid")
    assert record.metrics["fid"] == pytest.approx(expected.metrics["fid"], rel=1e-9)
    if "spatial" in layers:
        assert record.metrics["sfid"] == pytest.approx(expected.metrics["sfid"], rel=1e-9)
    else:
        assert "sfid" not in record.metrics
        assert_error(diffussm("evaluate", samples, *given, "--metrics", "fid,sfid"), "sfid needs mu_s and sigma_s")


def test_what_is_there_is_not_overwritten(built: Path, diffussm: Run) -> None:
    before = built.read_bytes()
    assert_error(diffussm("reference", "build", "digits16", built), "already exists")
    assert built.read_bytes() == before


def one_image(path: Path) -> None:
    np.savez(path, arr_0=np.zeros((1, 8, 8, 1), dtype=np.uint8))


def oblong(path: Path) -> None:
    np.savez(path, arr_0=np.zeros((9, 8, 16, 1), dtype=np.uint8))


def floats(path: Path) -> None:
    np.savez(path, arr_0=np.zeros((9, 8, 8, 1)))


def objects(path: Path) -> None:
    np.savez(path, arr_0=np.array([None] * 9))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (one_image, "at least 2 images"),
        (oblong, "images are 8 x 16 pixels; they must be square"),
        (floats, "arr_0: is float64; allowed: uint8"),
        (objects, "objects"),
        (lambda path: path.write_bytes(b"no zip"), "is damaged"),
    ],
)
def test_sources_that_are_refused(spoil: Callable[[Path], Any], words: str, tmp_path: Path, diffussm: Run) -> None:
    source = tmp_path / "source.npz"
    spoil(source)
    assert_error(diffussm("reference", "build", source, tmp_path / "out.npz", "--extractor", "digits-cnn"), words)
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("digit", "out.npz"), "neither images, nor one of the embedded data sets digits"),
        (("nowhere.npz", "out.npz"), "nowhere.npz: no such file"),
        (("digits", "out"), "out: a reference is an .npz file"),
        (("digits", "out.npz", "--image-size", "8"), "--image-size: applies to images that are cropped to a size"),
        (("digits", "out.npz", "--transform", "lsun"), "--transform: applies to images that are cropped to a size"),
        (("digits", "out.npz", "--extractor", "photos-cnn"), "is for 3 x 32 x 32 images, but"),
        (("digits", "out.npz", "--extractor", "digit-cnn"), "did you mean 'digits-cnn'?"),
        (("digits", "out.npz", "--extractor", "inception-v3-compat"), "needs weights file weights-inception-2015"),
        (("digits", "out.npz", "--images", "-1"), "--images"),
    ],
)
def test_mistakes(
    given: tuple[str, ...], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, diffussm: Run
) -> None:
    monkeypatch.chdir(tmp_path)
    assert_error(diffussm("reference", "build", *given), words)
    assert list(tmp_path.iterdir()) == []


def test_show_and_compare_of_what_is_no_reference(built: Path, tmp_path: Path, diffussm: Run) -> None:
    torn = tmp_path / "torn.npz"
    torn.write_bytes(built.read_bytes()[:-100])
    assert_error(diffussm("reference", "show", torn), "torn.npz: is damaged")
    assert_error(diffussm("reference", "compare", built, torn), "torn.npz: is damaged")
    assert_error(diffussm("reference", "show", tmp_path / "none.npz"), "none.npz: no such file")
    other = tmp_path / "other.npz"
    np.savez(other, x=np.zeros(3))
    assert_error(diffussm("reference", "show", other), "has neither arr_0 nor mu, but x")
    np.savez(other, mu=np.zeros(3), sigma=np.eye(3))
    assert_error(diffussm("reference", "compare", built, other), "mu has 64 and 3 features")
    np.savez(other, mu=np.zeros(3), sigma=np.eye(2))
    assert_error(diffussm("reference", "show", other), "mu without a sigma of its size")
    np.savez(other, mu=np.zeros(3), sigma=np.eye(3), diffussm=np.frombuffer(b"[1]", dtype=np.uint8))
    assert_error(diffussm("reference", "show", other), "cannot be read by this version; build it again")


def test_features_do_not_depend_on_how_images_lie_in_memory(digits: np.ndarray) -> None:
    """Channels last, as they come out of an .npz, or first."""
    extractor = Extractor("digits-cnn", ["features", "spatial"])
    last = digits.transpose(0, 2, 3, 1).copy(order="C").transpose(0, 3, 1, 2)
    for layer, found in extractor(last).items():
        np.testing.assert_array_equal(found, extractor(np.ascontiguousarray(digits).copy())[layer])
