"""Extractors of one's own: trained on a prepared data set, named and known by what their file says."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from diffussm.commands.extractor import show, train
from diffussm.config import Request
from diffussm.data.load import reference_images
from diffussm.errors import UserError
from diffussm.metrics.features.extractor import Extractor
from diffussm.metrics.features.own_file import read_own_extractor
from diffussm.metrics.features.registry import extractor_facts
from diffussm.metrics.features.small_cnn import SmallCNN
from diffussm.metrics.features.train_own import default_epochs, held_out
from diffussm.metrics.key import evaluation_key
from diffussm.metrics.requested_files import as_requested
from diffussm.metrics.requirements import missing_requirement
from diffussm.run.claim import assume_owner_dead
from diffussm.run.request import request_run
from diffussm.run.runner import TaskRunner
from diffussm.store import records
from tests.support import tiny
from tests.support.damage import flip
from tests.support.evaluating import Run
from tests.support.own_extractor import NAMES, prepared_digits, trained_extractor
from tests.support.prepared_set import noise_images, write_prepared


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An extractor that was trained on all digits for three epochs; never modified."""
    folder = tmp_path_factory.mktemp("own")
    trained_extractor(folder / "mine", folder / "mine-cnn.safetensors", epochs=3, count=1797)
    return folder / "mine-cnn.safetensors"


@pytest.mark.parametrize(
    ("side", "spatial"),
    [(8, 4), (9, 4), (15, 7), (16, 4), (28, 7), (32, 8), (33, 4), (64, 8), (65, 8), (100, 6), (128, 8), (256, 8)],
)
def test_the_network_takes_images_of_any_size(side: int, spatial: int) -> None:
    network = SmallCNN(3, side, 5)
    pixels = torch.zeros(2, 3, side, side, dtype=torch.uint8)
    assert network.maps(pixels).shape == (2, 64, spatial, spatial)
    assert [out.shape for out in network(pixels)] == [(2, 64), (2, 5)]


def test_it_is_accurate_on_what_was_held_out(own: Path) -> None:
    described = read_own_extractor(own)
    assert described.name == "mine-own-cnn"
    assert (described.channels, described.image_size, described.classes) == (1, 8, NAMES)
    assert described.layers == {"features": 64, "spatial": 7 * 4 * 4, "logits": 10}
    assert described.held_out_accuracy > 0.9
    images = reference_images("digits")
    chosen = held_out(images.labels, 0)
    assert described.held_out_images == chosen.sum() == 1797 - described.recipe.images
    found = Extractor(str(own), ["features", "logits"])(images.pixels[chosen])
    right = found["logits"].argmax(1) == images.labels[chosen]
    assert right.mean() == pytest.approx(described.held_out_accuracy, abs=1e-9)


def test_training_is_deterministic_and_depends_on_the_seed(tmp_path: Path) -> None:
    prepared_digits(tmp_path / "mine", 100)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(tmp_path / "mine", tmp_path / f"{name}.safetensors", 1, seed)
    a, b, c = ((tmp_path / f"{name}.safetensors").read_bytes() for name in "abc")
    assert a == b != c


def test_a_fifth_of_each_class_is_held_out_but_one_image_stays() -> None:
    labels = np.repeat(np.arange(5), [1, 2, 10, 11, 100])
    chosen = held_out(labels, 0)
    np.testing.assert_array_equal(np.bincount(labels[chosen], minlength=5), [0, 1, 2, 3, 20])
    assert (held_out(labels, 1) != chosen).any()
    assert held_out(np.zeros(200_000, dtype=np.int64), 0).sum() == 10_000


def test_small_sets_are_seen_more_often_and_large_ones_less() -> None:
    assert [default_epochs(n) for n in (256, 1024, 4096, 1 << 20)] == [128, 32, 32, 1 / 8]


def test_sets_without_classes_are_refused(tmp_path: Path) -> None:
    for name, shape, classes, message in (
        (
            "a",
            (3, 8, 8),
            (),
            "has no labels, but an extractor learns to tell classes apart; its samples can be measured",
        ),
        ("b", (1, 8, 8), (), "has no labels, but an extractor learns to tell classes apart; give it labels"),
        ("c", (1, 8, 8), ("cat",), "has one class, but an extractor"),
        ("d", (1, 4, 4), ("cat", "dog"), "images are 4 x 4; an extractor needs 8 x 8 or more"),
        ("e", (1, 8, 8), ("cat", "dog"), "no class has two images"),
    ):
        count = 2 if name == "e" else 20
        write_prepared(tmp_path / name, noise_images(count, shape), np.arange(count) % (len(classes) or 1), classes)
        with pytest.raises(UserError, match=message):
            train(tmp_path / name, None, 1, 0)
        assert not list(tmp_path.glob("*.safetensors"))


@pytest.mark.parametrize("option", [("--epochs", "inf"), ("--epochs", "1e300"), ("--seed", "99999999999999999999999")])
def test_numbers_that_are_too_large(option: tuple[str, str], tmp_path: Path, diffussm: Run) -> None:
    code, out, err = diffussm("extractor", "train", tmp_path, *option)
    assert (code, out) == (2, "")
    assert f"Invalid value for '{option[0]}': Input should be less than or equal to" in err


def test_the_file_stands_beside_the_folder_and_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared_digits(tmp_path / "mine", 60)
    before = sorted(path.name for path in (tmp_path / "mine").iterdir())
    monkeypatch.chdir(tmp_path / "mine")
    train(Path(), None, 1, 0)
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == before
    lines = capsys.readouterr().out
    assert "mine-own-cnn: for 1 x 8 x 8 images" in lines
    assert "10 classes: zero, one," in lines
    show(tmp_path / "mine-cnn.safetensors")
    assert capsys.readouterr().out == lines
    with pytest.raises(UserError, match=r"mine-cnn\.safetensors: already exists"):
        train(Path(), None, 1, 0)
    with pytest.raises(UserError, match=r"x\.npz: an extractor is a \.safetensors file"):
        train(Path(), Path("x.npz"), 1, 0)


def test_a_key_has_its_name_hash_and_sizes_wherever_the_file_is(own: Path, tmp_path: Path) -> None:
    moved = shutil.copy(own, tmp_path / "elsewhere.safetensors")
    keys = [evaluation_key(tiny.config(evaluation__extractor=str(path))) for path in (own, moved)]
    assert keys[0] == keys[1]
    key = keys[0]
    assert key.extractor == "mine-own-cnn"
    assert key.extractor_sha256 == extractor_facts(str(own)).weights.sha256
    assert key.extractor_layers.endswith("SmallCNNFeatures features=64 spatial=112 logits=10")
    assert key.metric_label("fid") == "FID (own CNN of mine, n = 12)"
    assert "below 64" in key.unreliability("fid")
    assert "below 112" in key.unreliability("sfid")


def test_a_request_is_for_the_file_that_was_meant(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = shutil.copy(own, tmp_path / "mine.safetensors")
    monkeypatch.chdir(tmp_path)
    here, there = (as_requested(tiny.config(evaluation__extractor=name)) for name in ("mine.safetensors", str(own)))
    assert here.evaluation.extractor == str(moved)
    assert here.evaluation.extractor_weights_sha256 == extractor_facts(str(own)).weights.sha256
    a, b = (Request.from_config(config) for config in (here, there))
    assert a.digest != b.digest
    assert a.results_digest == b.results_digest
    trained_extractor(tmp_path / "other", tmp_path / "mine.safetensors", epochs=1, count=60)
    assert "put that one back" in missing_requirement(here)


def test_a_run_is_measured_by_it(own: Path, tmp_path: Path) -> None:
    config = tiny.config(training__steps=8, training__milestones=[8], evaluation__extractor=str(own))
    run = request_run(tmp_path, config)
    TaskRunner(run.path).run_pending(assume_owner_dead)
    (path,) = run.path.rglob("record.json")
    record = records.read(path)
    assert record
    assert record.key == evaluation_key(config)
    assert record.metrics.keys() >= {"fid", "fid_floor", "label_accuracy"}
    with np.load(path.with_name("samples.npz")) as stored:
        np.testing.assert_array_equal(stored["class_names"], stored["labels"].astype(str))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"evaluation__reference": "digits16"}, "evaluation.reference = digits16: is for 1 x 16 x 16"),
        ({"model__classes": 0, "evaluation__metrics": ["label_accuracy"]}, "label_accuracy needs model.classes"),
    ],
)
def test_it_must_fit(own: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        evaluation_key(tiny.config(evaluation__extractor=str(own), **changes))


def test_its_classes_are_as_many_as_the_models(tmp_path: Path) -> None:
    images = reference_images("digits")
    few = images.labels < 3
    write_prepared(tmp_path / "few", images.pixels[few], images.labels[few], NAMES[:3])
    train(tmp_path / "few", None, 0.1, 0)
    config = tiny.config(evaluation__extractor=str(tmp_path / "few-cnn.safetensors"))
    with pytest.raises(
        UserError, match=r"label_accuracy: .*few-cnn.safetensors tells 3 classes apart, the model has 10"
    ):
        evaluation_key(config)


def test_its_classes_are_those_of_the_data(own: Path, tmp_path: Path) -> None:
    images = reference_images("digits")
    swapped = ("zero", "two", "one", *NAMES[3:])
    write_prepared(tmp_path / "swapped", images.pixels[:30], images.labels[:30], swapped)
    config = tiny.config(data__name="swapped", data__root=str(tmp_path / "swapped"), evaluation__extractor=str(own))
    with pytest.raises(UserError, match=r"has class 'one' where the data have 'two' \(label 1\)"):
        evaluation_key(config)
    numbered = tuple(map(str, range(10)))
    write_prepared(tmp_path / "numbered", images.pixels[:30], images.labels[:30], numbered)  # not named
    data = {"data__name": "numbered", "data__root": str(tmp_path / "numbered")}
    assert evaluation_key(tiny.config(evaluation__extractor=str(own), **data)).extractor == "mine-own-cnn"
    (tmp_path / "swapped" / "manifest.json").unlink()  # where the data are not, records are found all the same
    assert evaluation_key(config).extractor == "mine-own-cnn"


def test_what_is_no_extractor_is_refused(own: Path, tmp_path: Path) -> None:
    field = "evaluation.extractor = "
    with pytest.raises(
        UserError, match=rf"^{field}\S+/none\.safetensors: no such file; `diffussm extractor train DIR`"
    ):
        evaluation_key(tiny.config(evaluation__extractor=str(tmp_path / "none.safetensors")))
    shipped = extractor_facts("digits-cnn").weights.path()
    with pytest.raises(UserError, match=rf"^{field}\S+: is not an extractor's weights"):
        extractor_facts(str(shipped))
    damaged = Path(shutil.copy(own, tmp_path / "damaged.safetensors"))
    flip(damaged, 8 * (damaged.stat().st_size - 5))
    with pytest.raises(UserError, match=rf"^{field}\S+: is damaged: its content does not have the SHA-256"):
        extractor_facts(str(damaged))
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(UserError, match=rf"^{field}\S+: is damaged: cannot be read: Is a directory"):
        extractor_facts(str(tmp_path / "folder.safetensors"))
