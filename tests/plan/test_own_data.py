"""Grids on a base of one's own and on prepared data: planned with and without them, launched, moved, extended."""

import json
import shutil
from pathlib import Path

import pytest

from ablations import launch, manage
from ablations.plan.request import GridRequest, extension
from diffussm.config import run_id
from diffussm.data.lookup.resolution import resolve_with_data
from diffussm.errors import UserError, exit_code
from diffussm.run.request import request_run
from diffussm.store import manifests
from diffussm.store.rundir import RunDir
from tests.support.grid_file import HEADER
from tests.support.prepared_set import noise_images, write_prepared

BASE = """
extends = "photos"
[model]
image_size = 32
channels = 3
classes = 0
[data]
name = "mine"
[training]
steps = 2
milestones = []
"""
CLASSES = ("cat", "dog")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DIFFUSSM_DATA", raising=False)
    Path("my_base.toml").write_text(BASE)
    Path("two.toml").write_text(
        f'{HEADER}base = "digits"\nseeds = 1\n[axes.scale]\nA = {{ training.ssm_lr_scale = 1.0 }}\n'
        "B = { training.ssm_lr_scale = 0.1 }\n"
    )
    return tmp_path


def prepare(place: str, seed: int = 0) -> None:
    write_prepared(Path(place), noise_images(shape=(3, 32, 32), seed=seed), classes=CLASSES)


def request(data: str | None = None, base: str = "my_base.toml") -> GridRequest:
    settings = {} if data is None else {"data.root": data}
    return GridRequest.from_arguments("two.toml", base, None, settings, Path("runs"))


def launched(data: str | None = None) -> list[manifests.Manifest]:
    asked = request(data)
    planned = asked.plan()
    asked.write(planned, planned, replay=False)
    return manifests.read_undamaged(Path("runs"), "two", None)


def run_launch(*arguments: str) -> int:
    return exit_code(lambda: launch.main(["--grid", "two.toml", "--base", "my_base.toml", *arguments]))


def test_a_plan_without_the_data_is_provisional(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_launch("--dry-run") == 0
    shown = capsys.readouterr().out
    empty = run_id(resolve_with_data("my_base.toml"))
    assert f"{empty} (provisional)" in shown
    assert "2 runs: 2 lacks data" in shown
    assert f"Run folders are in {Path('runs').absolute()}.\n" in shown
    assert "Ids are provisional where the data are not there" in shown
    assert "Cannot run: data.name = mine: needs a prepared data set" in shown
    assert "make it with `diffussm data prepare SOURCE DIR --image-size 32` and give --data DIR." in shown
    assert run_launch("--dry-run", "--json") == 0
    assert {row["provisional_id"] for row in json.loads(capsys.readouterr().out)["runs"]} == {True}
    assert run_launch() == 2
    assert "needs a prepared data set" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_with_the_data_it_is_not(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    prepare("mine")
    assert run_launch("--dry-run", "--data", "mine") == 0
    shown = capsys.readouterr().out
    config = resolve_with_data("my_base.toml", {"data.root": str(here / "mine")})
    assert f"{run_id(config)} " in shown
    assert "provisional" not in shown
    assert run_id(config) != run_id(resolve_with_data("my_base.toml"))


def test_data_given_twice(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_launch("--data", "mine", "--set", "data.root=mine") == 2
    assert "--data: --set data.root is given too; give one of them" in capsys.readouterr().err


def test_a_launch_states_where_data_and_base_are(here: Path) -> None:
    prepare("mine")
    (manifest,) = launched("mine")
    assert (manifest.base, manifest.base_file) == ("my_base", str(here / "my_base.toml"))
    assert [path.name for path in Path("runs/grids").iterdir()] == ["two-my_base.1.json"]
    for entry in manifest.runs:
        assert RunDir(here / "runs" / entry.run_id).config().data.root == str(here / "mine")
    assert manifests.find_required(Path("runs"), None, "my_base.toml").manifests


def test_a_launch_after_a_move_is_the_same(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare("mine")
    before = launched("mine")
    shutil.move("mine", "moved")
    assert [manifest.runs for manifest in launched("moved")] == [manifest.runs for manifest in before]
    run = RunDir(here / "runs" / before[0].runs[0].run_id)
    assert run.config().data.root == str(here / "moved")
    shutil.move("moved", "mine")
    monkeypatch.setenv("DIFFUSSM_DATA", str(here))
    assert [manifest.runs for manifest in launched()] == [manifest.runs for manifest in before]


def test_other_data_in_the_same_folder_are_another_recipe(here: Path) -> None:
    prepare("mine")
    (before,) = launched("mine")
    prepare("mine", seed=1)
    asked = request("mine")
    planned = asked.plan()
    (difference,) = asked.write(planned, planned, replay=False)
    assert difference.what == "data"
    (now,) = manifests.read_undamaged(Path("runs"), "two", None)
    assert {entry.run_id for entry in now.runs}.isdisjoint(entry.run_id for entry in before.runs)


def test_an_extension_finds_base_and_data_from_any_folder(monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    prepare("mine")
    (manifest,) = launched("mine")
    monkeypatch.chdir("/")
    made = extension(manifest, here / "runs", [], 4)
    assert made
    assert {p.run.run_id for p in made.planned} == {entry.run_id for entry in manifest.runs}
    assert "--base" in made.request.command()


def test_a_base_of_the_same_name_is_another_recipe(here: Path) -> None:
    prepare("mine")
    launched("mine")
    Path("my_base.toml").write_text(BASE.replace("[training]", "[training]\nlr = 0.5"))
    asked = request("mine")
    planned = asked.plan()
    assert [found.what for found in asked.write(planned, planned, replay=False)] == ["base"]


def test_doctor_says_what_is_missing_and_what_is_there(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare("mine")
    manage.main(["doctor"])
    shown = capsys.readouterr().out
    assert "data: cifar10: needs a prepared data set, and neither data.root nor $DIFFUSSM_DATA says where it " in shown
    assert "`diffussm data prepare cifar-10-binary.tar.gz DIR --image-size 32` and give --data DIR\n" in shown
    monkeypatch.setenv("DIFFUSSM_DATA", str(here))
    manage.main(["doctor"])
    assert f"ok      data: mine: 20 images in {here / 'mine'}\n" in capsys.readouterr().out
    launched()
    assert manage.main(["doctor", "--grid", "two"]) in (0, 1)
    assert f"ok      data: mine: 20 images in {here / 'mine'}\n" in capsys.readouterr().out
    prepare("mine", seed=1)
    assert manage.main(["doctor", "--grid", "two"]) == 1
    assert "fail    data: data.digest = " in capsys.readouterr().out


def test_one_run_of_a_base_of_one_s_own(here: Path) -> None:
    prepare("mine")
    run = request_run(here / "runs", resolve_with_data("my_base.toml", {"data.root": "mine"}))
    config = run.config()
    assert config.data.root == str(here / "mine")
    prepare("mine", seed=1)
    with pytest.raises(UserError, match="holds other images, with digest"):
        request_run(here / "runs", config)
