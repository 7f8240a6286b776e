"""Mistakes in a base or in an option are not laid at the grid's door, and what is missing is named for what it is."""

import json
from pathlib import Path

import pytest

from ablations import launch
from diffussm.errors import exit_code
from tests.support.grid_file import HEADER
from tests.support.prepared_set import noise_images, write_prepared

BASE = 'extends = "digits"\n[training]\nsteps = 60\nmilestones = [30, 60]\n'


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DIFFUSSM_DATA", raising=False)
    Path("two.toml").write_text(
        f'{HEADER}base = "digits"\nseeds = 1\n[axes.M]\n"M = 2" = {{ model.hourglass = 2 }}\n'
        '"M = 4" = { model.hourglass = 4 }\n'
    )
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], base: str, *options: str) -> str:
    Path("mine.toml").write_text(base)
    assert exit_code(lambda: launch.main(["--grid", "two.toml", "--base", "mine.toml", *options])) == 2
    return capsys.readouterr().err.removeprefix("error: ").rstrip("\n")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("lr = -1", "{base}: training.lr = -1: allowed: more than 0"),
        ("lrr = 1", "{base}: config key: unknown name 'training.lrr'; did you mean 'training.lr'?"),
        ("[trainig]\nlr = 1", "{base}: config key: unknown name 'trainig'; did you mean 'training'?"),
        (
            '[data]\nname = "mein Satz ü"',
            "{base}: data.name = 'mein Satz \\xfc': allowed: up to 80 letters, digits and",
        ),
        ("[model]\nclasses = 4", "base {base}: model.classes = 4: digits has 10"),
        (
            '[evaluation]\nextractor = "photos-cnn"',
            "base {base}: evaluation.extractor = photos-cnn: is for 3 x 32 x 32",
        ),
    ],
)
def test_a_mistake_in_the_base(more: str, message: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(capsys, BASE + more)
    assert line.startswith(message.format(base=here / "mine.toml"))
    assert len(line) < 700


def test_a_mistake_in_an_option(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, BASE, "--set", "training.lr=-1").startswith("--set: ")
    write_prepared(here / "sets" / "mine", noise_images(shape=(1, 8, 8)))
    line = refused(capsys, f'{BASE}[data]\nname = "mine"\nroot = "sets/mine"', "--data", "sets")
    assert line.startswith("--data: data.name = mine: needs a prepared data set, and no manifest.json in ")
    assert f"give --data {here}/sets/mine" in line


def test_a_mistake_in_a_level_is_the_grid_s(capsys: pytest.CaptureFixture[str]) -> None:
    grid = Path("two.toml")
    grid.write_text(grid.read_text().replace("model.hourglass = 4", "model.hourglass = 3"))
    assert refused(capsys, BASE).startswith("two.toml: axes.M.M = 4: ")


def test_a_base_in_another_folder(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(lambda: launch.main(["--grid", "two.toml", "--base", "yours.toml"])) == 2
    assert capsys.readouterr().err == f"error: base: {here}/yours.toml: no such file\n"


def plan(capsys: pytest.CaptureFixture[str], base: str) -> tuple[set[str], list[str]]:
    """The states and the warnings of a dry run."""
    Path("mine.toml").write_text(base)
    assert launch.main(["--grid", "two.toml", "--base", "mine.toml", "--dry-run", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    return {row["state"] for row in content["runs"]}, content["warnings"]


def test_a_reference_is_missing_and_not_the_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert plan(capsys, f'{BASE}[evaluation]\nreference = "none.npz"')[0] == {"cannot be measured"}
    data = '[data]\nname = "mine"\n[model]\nimage_size = 8\nchannels = 1\nclasses = 10'
    assert plan(capsys, BASE + data)[0] == {"lacks data"}


def test_milestones_beyond_the_steps_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert plan(capsys, BASE) == ({"new"}, [])
    _states, warnings = plan(capsys, BASE.replace("[30, 60]", "[30, 90, 120]"))
    assert warnings == ["training.milestones: 90, 120 left out, beyond training.steps = 60"]
