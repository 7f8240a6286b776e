"""Sheets with the names of classes, and the nearest images of the training set."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffussm.config import Config, validate
from diffussm.data.images import HeldImages, Images
from diffussm.data.load import reference_images
from diffussm.errors import UserError
from diffussm.metrics.evaluation.model import write_samples
from diffussm.metrics.features.extractor import Extractor
from diffussm.metrics.pictures import nearest
from diffussm.metrics.pictures.names import class_names, label_of, names_of
from diffussm.metrics.pictures.nearest import closest, nearest_at_milestone, nearest_images
from diffussm.metrics.pictures.sheet import BAND, Nearest, sheet
from diffussm.metrics.pictures.text import fitted, length, wrapped
from diffussm.metrics.sampling import Samples
from diffussm.store.rundir import RunDir
from tests.support import tiny
from tests.support.own_extractor import NAMES, prepared_digits
from tests.support.prepared_set import noise_images, write_prepared

ANY_NAMES = ("daisy", "Ромашка", "菊", "زهرة", "a$b$", "\udcff\udcfe", "\n\x1b[1m", "0")


def of_prepared(folder: Path, **changes: object) -> Config:
    """A config whose training set is the prepared one in the folder."""
    tree = tiny.config().model_dump(mode="json")
    tree["data"] = {"name": "mine", "root": str(folder), **changes}
    return validate(tree, "test")


def test_names_in_any_script_are_drawn() -> None:
    pixels = reference_images("digits").pixels[:8]
    named = np.asarray(sheet(pixels, names=ANY_NAMES))
    for cell in np.split(named[-BAND:], 8, axis=1):
        assert (cell < 128).any()  # something is written below each


def test_names_stand_below_the_images() -> None:
    pixels = reference_images("digits").pixels[:8]
    plain, named = np.asarray(sheet(pixels)), np.asarray(sheet(pixels, names=["daisy", *"bcdefgh"]))
    assert named.shape == (plain.shape[0] + BAND, *plain.shape[1:])
    np.testing.assert_array_equal(named[: len(plain)], plain)


def test_a_name_is_cut_to_its_column() -> None:
    assert fitted("cat", 60).text == "cat"
    cut = fitted("golden retriever of the north", 60).text
    assert cut.startswith("gold")
    assert cut.endswith("...")
    assert length(cut) <= 60
    assert fitted("\ud800\n", 60).text == "\\ud800\\n"
    assert fitted("cat", 3).text == ""
    assert [line.text for line in wrapped("one two three", 50)] == ["one two", "three"]
    assert [line.text for line in wrapped("one \udcff", 200)] == ["one \\udcff"]


def test_columns_are_as_wide_as_names_up_to_a_limit() -> None:
    pixels = noise_images(8, (3, 32, 32))
    plain = sheet(pixels)
    assert plain.width == 8 * 33
    assert sheet(pixels, names=list("abcdefgh")).width == plain.width
    assert sheet(pixels, names=["golden retriever of the north", *"bcdefgh"]).width == 4 * plain.width  # 132 a column
    assert sheet(pixels, names=["golden retriever of the north"] * 8).width == plain.width


def test_one_class_is_named_once() -> None:
    pixels = reference_images("digits").pixels[:8]
    plain, named = np.asarray(sheet(pixels, 4)), np.asarray(sheet(pixels, 4, names=["\udcff daisy"] * 8))
    np.testing.assert_array_equal(named[:-BAND], plain)
    assert (named[-BAND:] < 128).any()


def test_the_nearest_stand_below_the_samples() -> None:
    pixels = reference_images("digits").pixels
    picture = np.asarray(sheet(pixels[:8], 4, nearest=Nearest(pixels[8:16], "pixels")))
    plain = [np.asarray(sheet(part, 4)) for part in (pixels[:4], pixels[8:12], pixels[4:8], pixels[12:16])]
    height, gap = len(plain[0]), BAND // 2
    for start, expected in zip((0, height, 2 * height + gap, 3 * height + gap), plain, strict=True):
        np.testing.assert_array_equal(picture[start : start + height], expected)
    assert len(picture) == 4 * height + 2 * gap + BAND
    assert (picture[-BAND:] < 128).any()


def test_the_first_of_the_nearest_is_found_whatever_the_batches() -> None:
    rows = np.random.default_rng(0).normal(size=(50, 3))
    rows[30] = rows[7]
    targets = rows[[7, 49, 0]] + 1e-9
    expected = ((targets[:, None] - rows) ** 2).sum(2).argmin(1)
    for size in (1, 7, 50):
        batches = [(np.arange(i, min(i + size, 50)), rows[i : i + size]) for i in range(0, 50, size)]
        np.testing.assert_array_equal(closest(targets, batches), [7, 49, 0])
    np.testing.assert_array_equal(expected, [7, 49, 0])


@pytest.mark.parametrize("name", ["digits-cnn", "inception-v3-compat"])
def test_training_images_are_their_own_nearest(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By features, or by pixels where the weights are not there."""
    monkeypatch.delenv("DIFFUSSM_WEIGHTS", raising=False)
    pixels = reference_images("digits").pixels[[5, 900, 1796]]
    found = nearest_images(pixels, tiny.config(evaluation__extractor=name, evaluation__metrics=["fid"]))
    np.testing.assert_array_equal(found.pixels, pixels)
    assert found.by == ("features of digits-cnn" if name == "digits-cnn" else "pixels")


def test_mirrored_images_count_where_they_are_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = noise_images(30, (1, 8, 8))
    write_prepared(tmp_path / "mine", pixels, np.arange(30) % 10, NAMES)
    monkeypatch.setattr(nearest, "_space", lambda *_: None)
    samples = np.stack([pixels[3], pixels[4][..., ::-1]])
    with_flips = nearest_images(samples, of_prepared(tmp_path / "mine", flip=True))
    np.testing.assert_array_equal(with_flips.pixels, samples)
    without = nearest_images(samples, of_prepared(tmp_path / "mine"))
    np.testing.assert_array_equal(without.pixels[0], samples[0])
    assert (without.pixels[1] != samples[1]).any()


def test_batches_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more of the training set is in memory than a batch."""
    taken: list[int] = []

    class Counted(HeldImages):
        def take(self, indices: np.ndarray) -> Images:
            taken.append(len(indices))
            return super().take(indices)

    images = Counted(Images(noise_images(300), np.zeros(300, dtype=np.int64)))
    monkeypatch.setattr(nearest, "BATCH_VALUES", 10 * 3 * 8 * 8)
    monkeypatch.setattr(nearest, "training_images", lambda *_: images)
    monkeypatch.setattr(nearest, "_space", lambda *_: None)
    nearest_images(noise_images(4), tiny.config())
    assert max(taken) == 10
    assert sum(taken) == 300 + 1 + 4  # the size of an image, and the nearest ones


def test_at_milestones_it_is_cached_and_cheap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DIFFUSSM_CACHE", str(tmp_path / "cache"))
    extractor, pixels = Extractor("digits-cnn", ["features"]), reference_images("digits").pixels[:5]
    found = nearest_at_milestone(pixels, tiny.config(), extractor, "cpu")
    assert found
    np.testing.assert_array_equal(found.pixels, pixels)
    monkeypatch.setattr(nearest, "_batches", None)  # is not called again
    again = nearest_at_milestone(pixels, tiny.config(), extractor, "cpu")
    assert again
    np.testing.assert_array_equal(again.pixels, pixels)
    monkeypatch.setattr(nearest, "AT_MILESTONES", 1796)
    assert nearest_at_milestone(pixels, tiny.config(), extractor, "cpu") is None
    assert nearest_at_milestone(pixels, tiny.config(), Extractor("digits-cnn", ["logits"]), "cpu") is None
    gone = of_prepared(tmp_path / "gone")
    assert nearest_at_milestone(pixels, gone, extractor, "cpu") is None


def test_random_crops_have_no_nearest() -> None:
    config = tiny.config()
    photos = config.model_copy(update={"data": config.data.model_copy(update={"name": "photos"})})
    with pytest.raises(UserError, match=r"data\.name = photos: is no finite set of images"):
        nearest_images(noise_images(2), photos)


def test_names_are_the_data_sets_or_numbers(tmp_path: Path) -> None:
    prepared_digits(tmp_path / "mine", 30)
    assert names_of(of_prepared(tmp_path / "mine"), [3, 0]) == ["three", "zero"]
    assert names_of(of_prepared(tmp_path / "gone"), [3, 0]) == ["3", "0"]
    assert names_of(of_prepared(tmp_path / "mine", digest="0" * 64), [3, 0]) == ["3", "0"]
    assert names_of(tiny.config(), [7]) == ["7"]
    assert names_of(tiny.config(model__classes=0, evaluation__metrics=["fid"]), [0]) == []


def test_names_stay_beside_the_samples_when_the_data_move(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    gone = of_prepared(tmp_path / "gone")
    assert class_names(gone, run) == {}
    for step, labels, names in ((8, [3, 3], ["three", "three"]), (16, [0], ["zero"])):
        write_samples(Samples(noise_images(len(labels), (1, 8, 8)), np.array(labels)), names, None, made(run, step))
    (made(run, 24) / "samples.npz").write_bytes(b"damaged")
    assert class_names(gone, run) == {0: "zero", 3: "three"}
    assert names_of(gone, [3, 0, 7], class_names(gone, run)) == ["three", "zero", "7"]


def made(run: RunDir, step: int) -> Path:
    folder = run.record(step, "key").parent
    folder.mkdir(parents=True)
    return folder


def test_a_class_is_given_by_number_or_name(tmp_path: Path) -> None:
    prepared_digits(tmp_path / "mine", 30)
    config = of_prepared(tmp_path / "mine")
    names = class_names(config)
    assert [label_of(text, config, names) for text in ("7", " three", "zero")] == [7, 3, 0]
    for text in ("10", "-1", "trhee", "\u0663"):
        with pytest.raises(UserError) as error:
            label_of(text, config, names)
        expected = "must be between 0 and 9, the classes of this model, or a name of them: zero, one, two, "
        assert str(error.value).startswith(f"--classes {text}: {expected}")
    unconditional = tiny.config(model__classes=0, evaluation__metrics=["fid"])
    with pytest.raises(UserError, match="unconditional; leave out --classes"):
        label_of("0", unconditional, {})


def test_a_sheet_is_an_image_of_any_size() -> None:
    for count, columns in ((1, 1), (3, 8), (9, 2)):
        pixels = noise_images(count, (3, 5, 5))
        picture = sheet(pixels, columns, ["x"] * count, Nearest(pixels, "pixels"))
        assert isinstance(picture, Image.Image)
