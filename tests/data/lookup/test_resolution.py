"""A config that fits its data: what it does not say is the data's."""

from pathlib import Path

import pytest

from diffussm.config import resolve, run_id
from diffussm.data.lookup.facts import check_fit
from diffussm.data.lookup.resolution import resolve_with_data
from diffussm.errors import UserError
from tests.support.prepared_set import noise_images, write_prepared

BASE = """
[model]
patch = 2
hourglass = 2
[data]
name = "mine"
[evaluation]
metrics = ["fid", "label_accuracy"]
"""


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delenv("DIFFUSSM_DATA", raising=False)
    (tmp_path / "base.toml").write_text(BASE)
    return str(tmp_path / "base.toml")


def test_sizes_and_classes_are_the_data_s(base: str, tmp_path: Path) -> None:
    manifest = write_prepared(tmp_path / "mine", noise_images(shape=(3, 12, 12)), classes=("cat", "dog"))
    config = resolve_with_data(base, {"data.root": str(tmp_path / "mine")})
    assert (config.model.image_size, config.model.channels, config.model.classes) == (12, 3, 2)
    assert (config.data.digest, config.data.transform) == (manifest.digest, "none")
    check_fit(config)


def test_the_folder_that_was_found_is_stated(base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_prepared(tmp_path / "mine", noise_images(), classes=("cat",))
    monkeypatch.chdir(tmp_path)
    by_folder = resolve_with_data(base, {"data.root": "mine"})
    monkeypatch.setenv("DIFFUSSM_DATA", ".")
    assert by_folder.data.root == str(tmp_path / "mine")
    assert resolve_with_data(base) == by_folder


def test_ids_follow_the_content_not_the_place(base: str, tmp_path: Path) -> None:
    for place, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_prepared(tmp_path / place, noise_images(seed=seed), classes=("cat",), per_shard=3 + seed)
    a, b, c = (run_id(resolve_with_data(base, {"data.root": str(tmp_path / place)})) for place in "abc")
    assert a == b
    assert a != c


@pytest.mark.parametrize(("field", "value"), [("image_size", 16), ("channels", 1), ("classes", 3)])
def test_what_the_base_says_must_fit(base: str, tmp_path: Path, field: str, value: int) -> None:
    write_prepared(tmp_path / "mine", noise_images(), classes=("cat", "dog"))
    config = resolve_with_data(base, {"data.root": str(tmp_path / "mine"), f"model.{field}": value})
    with pytest.raises(UserError, match=f"model.{field} = {value}: mine has "):
        check_fit(config)


def test_labelled_data_may_train_an_unconditional_model(base: str, tmp_path: Path) -> None:
    write_prepared(tmp_path / "mine", noise_images(), classes=("cat", "dog"))
    settings = {"data.root": str(tmp_path / "mine"), "model.classes": 0, "evaluation.metrics": ["fid"]}
    config = resolve_with_data(base, settings)
    check_fit(config)
    assert config.model.classes == 0


def test_without_the_data_the_base_must_say_it_all(base: str) -> None:
    with pytest.raises(UserError, match=r"--image-size SIDE`.* to plan without it, set model.channels, model.classes$"):
        resolve_with_data(base, {"model.image_size": 8})
    whole = {"model.image_size": 8, "model.channels": 3, "model.classes": 2}
    assert resolve_with_data(base, whole) == resolve(base, whole)


def test_a_transform_by_hand_is_that_of_the_data(base: str, tmp_path: Path) -> None:
    write_prepared(tmp_path / "mine", noise_images(), classes=("cat", "dog"))
    with pytest.raises(
        UserError, match=r"data\.transform = centre-crop 8: mine in .* has none; prepare others, or change it"
    ):
        resolve_with_data(base, {"data.root": str(tmp_path / "mine"), "data.transform": "centre-crop 8"})


def test_embedded_data_are_as_before(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text('data.name = "digits"')
    base = str(tmp_path / "base.toml")
    assert resolve_with_data(base) == resolve(base)
    assert resolve_with_data("digits") == resolve("digits")
    with pytest.raises(UserError, match="digits is embedded, and reads no folder"):
        resolve_with_data("digits", {"data.root": "/there"})
