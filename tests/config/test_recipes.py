"""Bases in files: found by their paths, extending others, and refused in one line."""

import os
import re
from pathlib import Path

import pytest

from diffussm.config import FROM_DATA, bases, check_base, load_base, naming_inherited, resolve
from diffussm.config.origin import inherited_from
from diffussm.errors import UserError
from diffussm.metrics.key import evaluation_key


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(base: str) -> str:
    with pytest.raises(UserError) as error:
        resolve(base)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_an_extending_file_sets_some_fields(here: Path) -> None:
    Path("mine.toml").write_text(
        'extends = "digits"\nseed = 3\n[training]\nlr = 0.25\n[sizes.diffussm]\nL = { width = 32 }\nM = { depth = 7 }\n'
    )
    below, mine = resolve("digits"), resolve("mine.toml")
    assert mine.training == below.training.model_copy(update={"lr": 0.25})
    assert mine.evaluation == below.evaluation
    assert (mine.model.depth, mine.model.width, mine.model.hourglass) == (1, 32, 2)  # size L of the base, changed
    assert resolve("mine.toml", {"size": "M"}).model.depth == 7
    assert resolve("mine.toml", {"size": "XL"}).model.depth == 2
    assert mine.seed == 3
    assert resolve("digits") == below


def test_a_chain_of_files_relative_to_each(here: Path) -> None:
    for folder in ("a", "b"):
        Path(folder).mkdir()
    Path("a/low.toml").write_text('extends = "digits"\ntraining = { lr = 0.5, batch = 7 }')
    Path("b/mid.toml").write_text('extends = "../a/low.toml"\ntraining.batch = 9')
    Path("top.toml").write_text('extends = "b/mid.toml"\ndata.flip = true')
    top = resolve(str(here / "top.toml"))
    assert (top.training.lr, top.training.batch, top.data.flip) == (0.5, 9, True)


def test_the_folder_of_data_is_relative_to_the_file_that_names_it(here: Path) -> None:
    Path("a").mkdir()
    Path("a/low.toml").write_text('data = { name = "mine", root = "../pixels" }')
    Path("top.toml").write_text('extends = "a/low.toml"')
    os.chdir("/")
    for file in ("a/low.toml", "top.toml"):
        assert resolve(str(here / file)).data.root == str(here / "a" / ".." / "pixels")


def test_a_file_that_has_changed_is_read_again(here: Path) -> None:
    path = here / "mine.toml"
    path.write_text('extends = "digits"\ntraining.lr = 0.5')
    assert resolve(str(path)).training.lr == 0.5
    path.write_text('extends = "digits"\ntraining.lr = 0.125')
    assert resolve(str(path)).training.lr == 0.125


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('extends = "digts"', "mine.toml: extends: unknown name 'digts'; did you mean 'digits'? valid: cifar10, "),
        ('extends = "none.toml"', "/none.toml: no such file"),
        ("extends = 3", "mine.toml: extends: unknown name '3'"),
        ('extends = "mine.toml"', "extends: mine.toml -> "),
        ('extends = "cycle.toml"', "is a cycle"),
        ('extends = "bad.toml"', "bad.toml: not valid TOML"),
        ("data = 3", "mine.toml: data: must be a table"),
        ("training = 3", "mine.toml: training: must be a table"),
        ("batch = 3", "mine.toml: config key: unknown name 'batch'; "),
        ("model.size = 3", "mine.toml: config key: unknown name 'model.size'; "),
        ("data.root = 3", "mine.toml: data.root = 3: allowed: a string"),
    ],
)
def test_mistakes_are_one_line(text: str, words: str, here: Path) -> None:
    Path("mine.toml").write_text(text)
    Path("cycle.toml").write_text('extends = "mine.toml"')
    Path("bad.toml").write_text("=")
    assert words in refused("mine.toml")


def test_a_long_chain_of_files_is_one_line(here: Path) -> None:
    for number in range(60):
        Path(f"{number}.toml").write_text(f'extends = "{number + 1}.toml"')
    assert "0.toml: extends: more than 50 files, one by the other" in refused("0.toml")
    Path("20.toml").write_text('extends = "digits"')
    assert load_base("0.toml") == load_base("digits")


def test_names_that_folders_are_named_after(here: Path) -> None:
    for name in ("my base.toml", "a..b.toml", ".toml", "ä.toml"):
        Path(name).write_text('extends = "digits"')
        with pytest.raises(UserError, match=re.escape(f"{name}: a base's file name has 1 to 80 letters, digits")):
            check_base(name)
    with pytest.raises(UserError, match=r"base: /.*none\.toml: no such file"):
        check_base("none.toml")
    for name in ("digts", "."):
        with pytest.raises(UserError, match=r"base: unknown name .* valid: cifar10, .*, or the path of a \.toml file"):
            check_base(name)
    Path("mine-2.0.toml").touch()
    check_base("mine-2.0.toml")
    check_base("digits")


def test_shipped_bases_that_extend_others() -> None:
    assert {"cifar10", "imagenet64", "imagenet128_pixel"} <= set(bases())
    small, large, paper = (resolve(name) for name in ("imagenet64", "imagenet128_pixel", "imagenet256"))
    assert (resolve("cifar10").model.length, small.model.length, large.model.length) == (1024, 4096, 16384)
    assert small.training == large.training == paper.training
    assert (large.model.depth, large.model.width) == (paper.model.depth, paper.model.width) == (29, 1152)
    assert "extends" not in load_base("imagenet128_pixel")


def test_paths_are_relative_to_their_file(here: Path) -> None:
    Path("a").mkdir()
    Path("a/mine.toml").write_text(
        'extends = "digits"\n[evaluation]\nreference = "ref.npz"\nextractor = "x/cnn.safetensors"\n'
        'extractor_weights = "../weights"\n'
    )
    Path("a/named.toml").write_text(
        'extends = "digits"\n[evaluation]\nreference = "photos"\nextractor = "photos-cnn"\n'
    )
    os.chdir("/")
    evaluation = resolve(str(here / "a/mine.toml")).evaluation
    assert evaluation.reference == str(here / "a/ref.npz")
    assert evaluation.extractor == str(here / "a/x/cnn.safetensors")
    assert evaluation.extractor_weights == str(here / "a/../weights")
    evaluation = resolve(str(here / "a/named.toml")).evaluation
    assert (evaluation.reference, evaluation.extractor) == ("photos", "photos-cnn")


def test_other_data_bring_their_own_shape(here: Path) -> None:
    Path("same.toml").write_text('extends = "digits16"\ntraining.lr = 0.5')
    Path("other.toml").write_text('extends = "digits16"\ndata.name = "mine"\nmodel.channels = 3')
    assert load_base("same.toml")["model"]["image_size"] == 16
    assert load_base("other.toml")["model"] == {
        name: value for name, value in load_base("digits16")["model"].items() if name not in FROM_DATA
    } | {"channels": 3}


def test_an_error_says_what_is_inherited(here: Path) -> None:
    Path("mid.toml").write_text('extends = "mnist"\n[training]\nlr = 0.5')
    Path("flat.toml").write_text(
        'extends = "mid.toml"\n[data]\nname = "flat"\n[model]\nimage_size = 8\nchannels = 3\nclasses = 0'
    )

    def check(**changes: object) -> str:
        overrides = {key.replace("__", "."): value for key, value in changes.items()}
        with pytest.raises(UserError) as error, naming_inherited("flat.toml", overrides):
            evaluation_key(resolve("flat.toml", overrides))
        return str(error.value)

    error = check()
    assert error.startswith(
        "flat.toml: evaluation.metrics: label_accuracy needs model.classes > 0; evaluation.guidance = "
    )
    assert error.endswith("(inherited: evaluation.metrics from mnist, evaluation.guidance from mnist)")
    error = check(evaluation__metrics=["fid"], evaluation__guidance=1.0)
    assert (
        "evaluation.extractor = mnist-cnn: is for 1 x 28 x 28 images, but these are 3 x 8 x 8; evaluation.ref" in error
    )
    assert error.endswith("(inherited: evaluation.extractor from mnist, evaluation.reference from mnist)")
    assert "inherited" not in check(evaluation__metrics=["fod"])
    assert inherited_from("flat.toml", "training.lr") == "mid"
    assert inherited_from("flat.toml", "model.classes") == inherited_from("flat.toml", "model.depth") == ""
