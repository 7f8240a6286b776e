"""A reference and an extractor that were made of other data than a run is trained on: a line says so."""

import json
from pathlib import Path

import pytest

from ablations import launch
from diffussm.commands.reference import build
from diffussm.commands.train import train
from diffussm.config import resolve
from diffussm.data.load import reference_images
from diffussm.metrics.data_digests import data_digests, misspelt_name, other_data
from diffussm.store.rundir import RunDir
from tests.support import tiny
from tests.support.grid_file import HEADER
from tests.support.own_extractor import NAMES, trained_extractor
from tests.support.prepared_set import write_prepared

OF_REFERENCE = "evaluation.reference = {}: was built from data with digest "
OF_EXTRACTOR = "evaluation.extractor = {}: was trained on data with digest "


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A prepared data set, a reference and an extractor of it, a base and a grid; then one image more."""
    monkeypatch.chdir(tmp_path)
    trained_extractor(tmp_path / "mine", tmp_path / "mine-cnn.safetensors", epochs=0.1, count=60)
    build("mine", tmp_path / "mine.npz", None, "mine-cnn.safetensors", 60, "", statistics=True)
    sections: dict[str, dict[str, object]] = {}
    for key, value in tiny.SETTINGS.items():
        section, field = key.split(".")
        sections.setdefault(section, {})[field] = value
    sections["data"] = {"name": "mine", "root": "mine"}
    sections["evaluation"] |= {"extractor": "mine-cnn.safetensors", "reference": "mine.npz"}
    sections["training"] |= {"steps": 2, "milestones": []}
    del sections["model"]["hourglass"]
    lines = [
        line
        for section, fields in sections.items()
        for line in (f"[{section}]", *(f"{field} = {json.dumps(value)}" for field, value in fields.items()))
    ]
    Path("my_base.toml").write_text("\n".join(['extends = "digits"', *lines]))
    Path("two.toml").write_text(
        f'{HEADER}base = "digits"\nseeds = 1\n[axes.M]\n"M = 2" = {{ model.hourglass = 2 }}\n'
        '"M = 4" = { model.hourglass = 4 }\n'
    )
    return tmp_path


def prepare_again(count: int = 61) -> None:
    images = reference_images("digits")
    write_prepared(Path("mine"), images.pixels[:count], images.labels[:count], NAMES)


def plan(*arguments: str) -> None:
    assert launch.main(["--grid", "two.toml", "--base", "my_base.toml", *arguments]) == 0


def test_a_plan_says_it_once(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan("--dry-run")
    assert "digest" not in capsys.readouterr().out
    prepare_again()
    plan("--dry-run")
    shown = capsys.readouterr().out
    for text in (OF_REFERENCE.format(here / "mine.npz"), OF_EXTRACTOR.format(here / "mine-cnn.safetensors")):
        assert shown.count(f"warning: {text}") == 1
    assert "build another with `diffussm reference build`, unless other data are meant" in shown
    plan("--dry-run", "--json")
    assert len(json.loads(capsys.readouterr().out)["warnings"]) == 2


def test_one_run_says_it(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    prepare_again()
    assert train("my_base.toml", {}, Path("runs"), False, False, None, False) == 0
    assert f"warning: {OF_REFERENCE.format(here / 'mine.npz')}" in capfd.readouterr().err
    (run,) = map(RunDir, Path("runs").glob("mine-*"))
    (record,) = run.path.glob("milestones/2/*/record.json")
    digests = json.loads(record.read_bytes())["provenance"]["data_digests"]
    assert digests["training"] == run.config().data.digest
    assert digests["reference"] == digests["extractor"] != digests["training"]


def test_embedded_data_are_their_own_reference() -> None:
    for base in ("digits", "mnist", "photos"):
        config = resolve(base)
        assert not other_data(config)
        assert data_digests(config).keys() == {"training", "reference"}
    other = resolve("digits", {"data.name": "sevens", "data.digest": "7" * 64})
    (line,) = other_data(other)
    assert line.startswith(OF_REFERENCE.format("digits"))


def test_a_name_that_is_almost_that_of_embedded_data() -> None:
    (line,) = misspelt_name(resolve("digits", {"data.name": "digitz", "data.digest": "7" * 64}))
    assert line == "data.name = digitz: is no embedded data set; did you mean 'digits'?"
    for name in ("digits", "photos64", "faces"):
        assert not misspelt_name(resolve("digits", {"data.name": name}))
