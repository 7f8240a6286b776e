"""`diffussm reference build` of prepared data sets, and labels in references."""

from pathlib import Path

import numpy as np
import pytest

from diffussm.data.load import reference_images
from diffussm.data.pixels import write_npz
from diffussm.metrics.features.extractor import Extractor
from diffussm.metrics.reference.file import ReferenceFile
from diffussm.metrics.statistics.frechet import Moments
from tests.commands.test_reference_command import photographs, record_of
from tests.support.evaluating import Run, assert_error
from tests.support.own_extractor import prepared_digits, trained_extractor
from tests.support.prepared_set import noise_images, write_prepared
from tests.support.sources import class_folders, noise, pack_zip, write_cifar, write_mnist


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared data set of 200 digits, with its extractor beside it; never modified."""
    folder = tmp_path_factory.mktemp("prepared") / "mine"
    trained_extractor(folder, folder.with_name("mine-cnn.safetensors"), epochs=1)
    return folder


def test_it_has_the_statistics_of_all_images_and_some_with_labels(mine: Path, tmp_path: Path, diffussm: Run) -> None:
    out, extractor = tmp_path / "mine.npz", mine.with_name("mine-cnn.safetensors")
    code, printed, err = diffussm("reference", "build", mine, out, "--extractor", extractor, "--images", "50")
    assert (code, printed) == (0, f"{out}\n")
    assert f"{mine}: 200 images taken; stored: 50" in err
    images, prepared = reference_images("digits"), prepared_digits(tmp_path / "again")
    with np.load(out) as file:
        statistics = Moments.of(Extractor(str(extractor), ["features"])(images.pixels[:200])["features"]).statistics
        np.testing.assert_allclose(file["mu"], statistics.mean, rtol=1e-6, atol=1e-6)
        chosen = [(images.pixels[:200, 0] == image[..., 0]).all((1, 2)).argmax() for image in file["arr_0"]]
        np.testing.assert_array_equal(file["arr_1"], images.labels[chosen])
    metadata = ReferenceFile(out).metadata
    assert metadata["data_digest"] == prepared.manifest.digest
    assert (metadata["extractor"], metadata["extractor_file"]) == ("mine-own-cnn", "mine-cnn.safetensors")
    assert (metadata["transform"], metadata["samples"]) == ("none", 200)


def test_samples_are_measured_by_the_extractor_beside_it(mine: Path, tmp_path: Path, diffussm: Run) -> None:
    extractor, beside = mine.with_name("mine-cnn.safetensors"), mine.with_name("mine.npz")
    given = ("--extractor", extractor, "--images", "200")
    assert diffussm("reference", "build", mine, beside, *given)[0] == 0
    samples = tmp_path / "samples.npz"
    pixels = reference_images("digits").pixels[300:400]
    write_npz(samples, (1, 8, 8), len(pixels), [pixels])
    found = record_of(diffussm, samples, "--reference", beside, "--metrics", "fid")
    assert found.key.extractor == "mine-own-cnn"
    by_name = record_of(diffussm, samples, "--reference", beside, "--metrics", "fid", "--extractor", extractor)
    assert (found.key, found.metrics) == (by_name.key, by_name.metrics)
    alone = tmp_path / "alone.npz"
    alone.write_bytes(beside.read_bytes())
    problem = "use the extractor that they were computed with (mine-own-cnn)"
    assert_error(diffussm("evaluate", samples, "--reference", alone, "--extractor", "digits-cnn"), problem)


def test_images_of_one_channel_need_an_extractor(mine: Path, tmp_path: Path, diffussm: Run) -> None:
    out = tmp_path / "out.npz"
    problem = (
        "give --extractor: Inception is for images of 3 channels, these have 1; `diffussm extractor train` makes one"
    )
    assert_error(diffussm("reference", "build", mine, out), problem)
    assert_error(
        diffussm("reference", "build", mine, out, "--image-size", "8"),
        "--image-size: applies to images that are cropped",
    )
    assert not out.exists()
    assert diffussm("reference", "build", mine, out, "--no-statistics", "--images", "3")[0] == 0


def test_images_of_three_channels_are_for_inception(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, diffussm: Run
) -> None:
    monkeypatch.delenv("DIFFUSSM_WEIGHTS", raising=False)
    write_prepared(tmp_path / "colour", noise_images())
    assert_error(diffussm("reference", "build", tmp_path / "colour", tmp_path / "x.npz"), "weights-inception-2015")
    given = ("reference", "build", tmp_path / "colour", tmp_path / "x.npz", "--no-statistics")
    assert diffussm(*given)[0] == 0
    with np.load(tmp_path / "x.npz") as file:
        assert set(file) == {"arr_0", "diffussm"}  # it has no classes
        np.testing.assert_array_equal(file["arr_0"], noise_images().transpose(0, 2, 3, 1))


def test_labels_of_other_sources(tmp_path: Path, diffussm: Run) -> None:
    none = ("--no-statistics", "--images", "40")
    for source in ("digits", tmp_path / "digits.npz"):  # of the embedded set, then of its reference
        out = tmp_path / f"{Path(source).stem}{'-again' if Path(source).suffix else ''}.npz"
        assert diffussm("reference", "build", source, out, *none)[0] == 0
        with np.load(out) as file:
            images = reference_images("digits")
            chosen = [(images.pixels[:, 0] == image[..., 0]).all((1, 2)).argmax() for image in file["arr_0"]]
            np.testing.assert_array_equal(file["arr_1"], images.labels[chosen])
    folder = photographs(tmp_path / "classes" / "b")
    (folder / "sub").rename(tmp_path / "classes" / "a")
    given = ("reference", "build", tmp_path / "classes", tmp_path / "c.npz", "--image-size", "8", *none)
    assert diffussm(*given)[0] == 0
    with np.load(tmp_path / "c.npz") as file:
        np.testing.assert_array_equal(file["arr_1"], [0, 0, 1, 1, 1])
    (tmp_path / "images.zip").touch()
    assert_error(
        diffussm("reference", "build", tmp_path / "images.zip", tmp_path / "d.npz"), "is damaged or not a .zip"
    )


def source_of(kind: str, place: Path) -> Path:
    """Write 12 images or more with classes."""
    if kind == "zip":
        folder = class_folders(place / "unpacked")
        files = {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*.png")}
        return pack_zip(place / "images.zip", files)
    if kind == "cifar":
        write_cifar(place)
        return place
    return write_mnist(place, noise(12 * 9, 9, channels=1).reshape(12, 9, 9), np.arange(12, dtype=np.uint8) % 4)


@pytest.mark.parametrize(("kind", "given"), [("zip", ["--image-size", "8"]), ("cifar", []), ("idx", [])])
def test_a_source_has_the_reference_of_what_is_prepared_of_it(
    kind: str, given: list[str], tmp_path: Path, diffussm: Run
) -> None:
    source = source_of(kind, tmp_path / kind)
    assert diffussm("data", "prepare", source, tmp_path / "set", *given)[0] == 0
    for origin, options in ((source, given), (tmp_path / "set", [])):
        out = tmp_path / f"of-{Path(origin).name}.npz"
        code, _, err = diffussm("reference", "build", origin, out, "--no-statistics", "--images", "7", *options)
        assert (code, "stored: 7" in err) == (0, True), err
    with np.load(tmp_path / f"of-{source.name}.npz") as first, np.load(tmp_path / "of-set.npz") as second:
        assert set(first) == set(second) == {"arr_0", "arr_1", "diffussm"}
        np.testing.assert_array_equal(first["arr_0"], second["arr_0"])
        np.testing.assert_array_equal(first["arr_1"], second["arr_1"])
