"""What is known of a data set before it is loaded: by its name, its folder or its class."""

import errno
import importlib
import os
from pathlib import Path

import numpy as np
import pytest

from diffussm.config import Config, DataConfig, resolve
from diffussm.data.catalogue import CATALOGUE, DataFacts
from diffussm.data.images import Examples, Images
from diffussm.data.load import training_data
from diffussm.data.lookup.facts import check_fit, data_facts, find, find_required, is_provisional, stated_facts
from diffussm.data.prepared.manifest import Manifest, read_manifest
from diffussm.errors import UserError
from diffussm.metrics.key import evaluation_key
from diffussm.metrics.requirements import missing_measuring_requirement, missing_requirement
from tests.support.prepared_set import noise_images, write_prepared

CLASS = """
import numpy as np
from diffussm import DataFacts
from diffussm.data.images import Images

class Squares:
    options = ("root",)

    def __init__(self, data):
        self.root = data.root

    @staticmethod
    def facts(data):
        return DataFacts(images=10, image_size=16, channels=1, classes=2, sha256="ab" * 32)

    def batch(self, seed, step, size, start=0, count=None):
        n = size - start if count is None else count
        return Images(np.full((n, 1, 16, 16), step, dtype=np.uint8), np.zeros(n, dtype=np.int64))

class Plain(Squares):
    options = ()
    @staticmethod
    def facts(data):
        return DataFacts(images=10, image_size=16, channels=1, classes=2)

class NoFacts:
    def batch(self): ...

class OtherFacts(Squares):
    @staticmethod
    def facts(data):
        return 7

class RaisingFacts(Squares):
    @staticmethod
    def facts(data):
        return {}["side"]

class NoNumber(Squares):
    @staticmethod
    def facts(data):
        return DataFacts(images=10, image_size="16", channels=1, classes=2)
"""


@pytest.fixture(autouse=True)
def _no_folder_of_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DIFFUSSM_DATA", raising=False)


@pytest.fixture
def mine(tmp_path: Path) -> Manifest:
    return write_prepared(tmp_path / "mine", noise_images(), classes=("cat", "dog"))


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my_squares.py").write_text(CLASS)
    monkeypatch.syspath_prepend(tmp_path)
    return "my_squares"


def refused(**data: object) -> str:
    with pytest.raises(UserError) as error:
        find_required(DataConfig(**data))
    return str(error.value)


def test_an_embedded_data_set() -> None:
    assert find(DataConfig(name="digits")) == CATALOGUE["digits"]


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("root", "/there", "data.root = /there: digits is embedded, and reads no folder"),
        ("digest", "ab" * 32, "data.digest: digits is embedded, and does not read it; remove it"),
        ("transform", "centre-crop 8", "data.transform: digits is embedded, and does not read it; remove it"),
    ],
)
def test_an_embedded_data_set_reads_no_options(field: str, value: str, words: str) -> None:
    assert words in refused(name="digits", **{field: value})


def test_a_prepared_data_set_is_found_by_its_folder(mine: Manifest, tmp_path: Path) -> None:
    found = find_required(DataConfig(name="mine", root=str(tmp_path / "mine")))
    assert found == DataFacts(
        images=20,
        image_size=8,
        channels=3,
        classes=2,
        sha256=mine.digest,
        class_names=("cat", "dog"),
        folder=tmp_path / "mine",
    )


def test_or_by_its_name_in_the_folder_of_the_environment(
    mine: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIFFUSSM_DATA", str(tmp_path))
    assert find_required(DataConfig(name="mine")).sha256 == mine.digest
    assert find_required(DataConfig(name="mine", root="/moved/away")).folder == tmp_path / "mine"


def test_the_folder_is_looked_at_first(mine: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_prepared(tmp_path / "other" / "mine", noise_images(seed=1))
    monkeypatch.setenv("DIFFUSSM_DATA", str(tmp_path / "other"))
    assert find_required(DataConfig(name="mine", root=str(tmp_path / "mine"))).sha256 == mine.digest


def test_another_digest_than_the_data_have(mine: Manifest, tmp_path: Path) -> None:
    given = {"name": "mine", "root": str(tmp_path / "mine")}
    assert find_required(DataConfig(**given, digest=mine.digest)).sha256 == mine.digest
    error = refused(**given, digest="0" * 64)
    assert error.startswith(
        f"data.digest = {'0' * 64}: mine in {tmp_path / 'mine'} holds other images, with digest {mine.digest}"
    )


def test_what_is_missing_says_where_it_was_looked_for_and_what_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded = "embedded: " + ", ".join(sorted(CATALOGUE))
    assert find(DataConfig(name="faces")) is None
    assert refused(name="faces") == (
        f"data.name = faces: needs a prepared data set ({embedded}), and neither data.root nor $DIFFUSSM_DATA says "
        "where it lies; make it with `diffussm data prepare SOURCE DIR --image-size SIDE` and give --data DIR"
    )
    assert "(did you mean 'digits'? embedded: " in refused(name="digts")
    monkeypatch.setenv("DIFFUSSM_DATA", str(tmp_path))
    assert (
        f"no manifest.json in /none or {tmp_path / 'faces'}; if it was moved, change data.root, give --data DIR, or "
        "set $DIFFUSSM_DATA to the folder that holds it as faces; else make it with `diffussm data prepare SOURCE "
        "/none --image-size SIDE`" in refused(name="faces", root="/none")
    )
    assert "prepare cifar-10-binary.tar.gz " in refused(name="cifar10")
    latents = refused(name="imagenet256-latents", decoded_size=256)
    assert "prepare ILSVRC/Data/CLS-LOC/train " in latents
    assert "--image-size 256 --vae FOLDER`" in latents


def test_a_folder_of_images_is_to_be_prepared_first(tmp_path: Path) -> None:
    (tmp_path / "cat.png").touch()
    error = refused(name="cats", root=str(tmp_path))
    assert f"`diffussm data prepare {tmp_path} DIR --image-size SIDE` and give --data DIR" in error


def test_a_folder_that_may_not_be_read_is_one_line(
    mine: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "stat", denied)
    data = DataConfig(name="mine", root=str(tmp_path / "mine"))
    for look in (lambda: find(data), lambda: read_manifest(tmp_path / "mine")):
        with pytest.raises(UserError, match="mine: cannot be read as a prepared data set: Permission denied"):
            look()


def test_names_in_commands_are_quoted(tmp_path: Path) -> None:
    (tmp_path / "my cats").mkdir()
    (tmp_path / "my cats" / "cat.png").touch()
    assert f"prepare '{tmp_path}/my cats' DIR " in refused(name="cats", root=str(tmp_path / "my cats"))
    assert f"prepare SOURCE '{tmp_path}/my dogs' " in refused(name="cats", root=str(tmp_path / "my dogs"))


def test_a_folder_above_names_the_sets_in_it(tmp_path: Path) -> None:
    for name in ("my cats", "dogs"):
        write_prepared(tmp_path / "sets" / name, noise_images())
    error = refused(name="cats", root=str(tmp_path / "sets"))
    folder = tmp_path / "sets"
    assert error.endswith(
        f"no manifest.json in {folder}, but in a folder inside; give --data {folder}/dogs or --data '{folder}/my cats'"
    )


def test_facts_of_data_that_are_not_there_are_the_model_s() -> None:
    config = resolve("photos", {"data.name": "faces"})
    facts = data_facts(config)
    assert (facts.image_size, facts.channels, facts.classes, facts.transform) == (32, 3, 0, "")
    assert "diffussm data prepare SOURCE DIR --image-size 32`" in missing_requirement(config)
    check_fit(config)
    assert is_provisional(config)
    assert not is_provisional(resolve("photos", {"data.name": "faces", "data.digest": "0" * 64}))
    assert not is_provisional(resolve("photos"))


def test_the_key_of_an_evaluation_does_not_need_the_data() -> None:
    """So that records of runs are found on a machine without them."""
    config = resolve("photos", {"data.name": "faces", "data.digest": "0" * 64, "data.transform": "centre-crop 32"})
    with pytest.raises(UserError, match="built with transform 'none', but the training data use 'centre-crop 32'"):
        evaluation_key(config)
    plain = evaluation_key(resolve("photos", {"data.name": "faces", "data.digest": "0" * 64}))
    assert plain == evaluation_key(resolve("photos"))
    assert missing_measuring_requirement(config) == ""
    assert "needs a prepared data set" in missing_requirement(config)


def test_a_class_from_outside(module: str) -> None:
    data = DataConfig(name=f"{module}:Squares", root="/there")
    assert find_required(data) == DataFacts(images=10, image_size=16, channels=1, classes=2, sha256="ab" * 32)
    assert training_data(data).batch(0, 3, 4)[0][0, 0, 0, 0] == 3
    config = Config(data=data.model_copy(update={"digest": "ab" * 32}))
    assert stated_facts(config).sha256 == "ab" * 32
    assert not is_provisional(Config(data=data))


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ("pixels", "returned ndarray, expected Images or Examples (diffussm.data.images)"),
        ("Images(pixels[:, :, :8], labels)", "returned uint8 (4, 1, 8, 16), expected uint8 or float32 (4, 1, 16, 16)"),
        ("Images(pixels[:3], labels[:3])", "returned uint8 (3, 1, 16, 16), expected uint8 or float32 (4, 1, 16, 16)"),
        (
            "Images(pixels.astype(np.int64), labels)",
            "returned int64 (4, 1, 16, 16), expected uint8 or float32 (4, 1, 16, 16)",
        ),
        ("Images(pixels.tolist(), labels)", "returned list, expected uint8 or float32 (4, 1, 16, 16)"),
        ("Images(pixels, labels / 2)", "returned labels float64 (4,), expected int64 (4,)"),
        ("Images(pixels, labels[:, None])", "returned labels int64 (4, 1), expected int64 (4,)"),
        ("Images(pixels, labels + 2)", "returned labels 2 .. 2, expected 0 .. 1"),
        ("Images(pixels, labels - 1)", "returned labels -1 .. -1, expected 0 .. 1"),
    ],
)
def test_a_batch_that_is_not_as_its_facts_say(
    batch: str, message: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels, labels = np.zeros((4, 1, 16, 16), np.uint8), np.zeros(4, np.int64)
    returned = eval(batch, {"Images": Images, "pixels": pixels, "labels": labels, "np": np})
    monkeypatch.setattr(importlib.import_module(module).Squares, "batch", lambda *_: returned)
    for flip in (False, True):
        data = training_data(DataConfig(name=f"{module}:Squares", flip=flip))
        with pytest.raises(UserError) as error:
            data.batch(0, 3, 4)
        assert str(error.value) == f"data.name = '{module}:Squares': its batch() {message}"


def test_batches_that_are_as_stated_are_taken(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.full((4, 1, 16, 16), 0.5, np.float32)
    examples = Examples(values, np.ones(4, np.int32))  # type: ignore[arg-type]
    monkeypatch.setattr(importlib.import_module(module).Squares, "batch", lambda *_: examples)
    found = training_data(DataConfig(name=f"{module}:Squares")).batch(0, 3, 4)
    assert np.array_equal(found[0], values)
    assert found.labels.dtype == np.int64


def test_mistakes_of_a_class_from_outside(module: str) -> None:
    assert "'my_squares:Squires': module 'my_squares' has no attribute 'Squires'" in refused(name="my_squares:Squires")
    assert "run from the folder that contains no_squares.py" in refused(name="no_squares:Squares")
    assert "has no method `facts`, which a data set needs" in refused(name="my_squares:NoFacts")
    assert "its facts() returned 7, expected DataFacts" in refused(name="my_squares:OtherFacts")
    for name, message in {
        "RaisingFacts": r"my_squares:RaisingFacts': its facts() raised KeyError: 'side' (",
        "NoNumber": "its facts() states image_size = '16'; allowed: a whole number from 1",
    }.items():
        assert message in refused(name=f"my_squares:{name}")
    assert "data.root: my_squares:Plain does not read it" in refused(name="my_squares:Plain", root="/there")
    assert "data.digest: my_squares:Plain states none; remove it" in refused(name="my_squares:Plain", digest="0" * 64)
    assert f"my_squares:Squares holds other images, with digest {'ab' * 32}" in refused(
        name="my_squares:Squares", digest="0" * 64
    )


@pytest.mark.parametrize("name", ["", "a/b", "../a", ".a", "a b", "a:b:c", ":B", "a" * 81, "a\n"])
def test_names_that_would_begin_no_run_id(name: str) -> None:
    with pytest.raises(UserError, match=r"digits: data\.name = .*allowed: up to 80 letters, digits and _ - \. only"):
        resolve("digits", {"data.name": name})
