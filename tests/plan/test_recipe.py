"""An arm's row holds runs of one recipe, although the base of that name and its data may change between launches."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ablations.grid import recipe as recipes
from ablations.plan.manifest import Difference
from ablations.plan.request import GridRequest, extension
from diffussm.config import recipes as config_recipes
from diffussm.data import catalogue
from diffussm.data.load import reference_images
from diffussm.errors import UserError
from diffussm.metrics import key
from diffussm.store import manifests
from diffussm.store.manifests import Manifest
from diffussm.store.rundir import RunDir
from reports.grid.report import RECIPE_NOT_STATED, report
from reports.grid.results import load
from tests.support import synthetic_records, tiny
from tests.support.grid_file import HEADER

SETTINGS = {key: value for key, value in tiny.SETTINGS.items() if key not in ("training.steps", "training.milestones")}
LEVELS = "A = { training.ssm_lr_scale = 1.0 }\nB = { training.ssm_lr_scale = 0.1 }\n"
CHANGES = {  # of the base's file: a field of the training, of the request alone, of the evaluation
    "lr": ("lr = 5e-3", "lr = 4e-3"),
    "steps": ("steps = 2400\nmilestones = [300, 600, 1200, 1800, 2400]", "steps = 600\nmilestones = [300, 600]"),
    "clip": ("[evaluation]", "[evaluation]\nclip = false"),
}


class Folder:
    """A user's folder: a grid of two arms, and a base whose file may change."""

    def __init__(self, path: Path):
        self.runs, self.bases = path / "runs", path / "bases"
        self.grid = path / "two.toml"
        self.grid.write_text(f'{HEADER}base = "digits"\nseeds = 1\n[axes.scale]\n{LEVELS}')
        self.bases.mkdir()
        self.base = self.bases / "digits.toml"
        self.original = (config_recipes.BASES / "digits.toml").read_text()
        self.base.write_text(self.original)

    def change(self, old: str, new: str) -> None:
        assert old in self.base.read_text()
        self.base.write_text(self.base.read_text().replace(old, new))

    def restore(self) -> None:
        self.base.write_text(self.original)

    def launch(self, *seeds: int, settings: dict[str, Any] = SETTINGS) -> Difference | None:
        request = GridRequest.from_arguments(str(self.grid), None, seeds, settings, self.runs)
        planned = request.plan()
        found = request.write(planned, planned, replay=False)
        return found[0] if found else None

    @property
    def manifest(self) -> Manifest:
        return next(iter(manifests.find(self.runs, None, None).manifests.values()))

    @property
    def seeds(self) -> list[int]:
        assert len(self.manifest.runs) % 2 == 0
        return [entry.seed for entry in self.manifest.runs if entry.arm == "A"]

    def forget_recipe(self) -> None:
        """Make the manifest in force what a version of before wrote."""
        (path,) = manifests.newest(self.runs)
        content = json.loads(path.read_text())
        del content["base_digest"], content["data_digest"]
        path.write_text(json.dumps(content))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folder]:
    made = Folder(tmp_path)
    monkeypatch.setattr(config_recipes, "BASES", made.bases)
    yield made
    monkeypatch.undo()


def test_seeds_of_one_recipe_are_merged(folder: Folder) -> None:
    assert folder.launch(0, 1) is None
    folder.change("lr =", "# a remark\nlr    =")
    folder.change("threads = 1", "threads = 2")  # changes no result
    assert folder.launch(2) is None
    assert folder.seeds == [0, 1, 2]
    assert (folder.manifest.base_digest, folder.manifest.data_digest) == recipes.recipe("digits", {})


@pytest.mark.parametrize("is_stated", [True, False])
@pytest.mark.parametrize("what", CHANGES)
def test_runs_of_another_base_share_no_row(what: str, is_stated: bool, folder: Folder) -> None:
    assert folder.launch(0, 1) is None
    if not is_stated:
        folder.forget_recipe()
    before = folder.manifest
    folder.change(*CHANGES[what])
    difference = folder.launch(2)
    assert difference is not None
    if is_stated:
        now = recipes.recipe("digits", {}).base
        assert f"base digits has changed since the last launch (it had digest {before.base_digest} and has {now})" in (
            difference.reason
        )
    assert difference.are_same_runs == (what == "steps")
    consequence = "The runs are the same" if what == "steps" else "From now on, reports on this grid show these"
    assert difference.consequence.startswith(consequence)
    assert folder.seeds == [2]
    if is_stated or what != "steps":  # more steps of a run are the same run
        with pytest.raises(UserError, match=r"two on digits: .*: its runs cannot be extended; restore the base"):
            extension(before, folder.runs, [], 4800)
    assert folder.launch(3) is None
    assert folder.seeds == [2, 3]
    folder.restore()
    assert folder.launch(0, 1) is not None
    assert folder.seeds == [0, 1]
    assert extension(folder.manifest, folder.runs, [], 4800) is not None


def test_an_arm_that_is_another_now_is_not_extended(folder: Folder) -> None:
    folder.launch(0, 1)
    folder.grid.write_text(folder.grid.read_text().replace("ssm_lr_scale = 0.1", "ssm_lr_scale = 0.2"))
    with pytest.raises(UserError, match="Arm 'B' has changed since the last launch: its runs cannot be extended"):
        extension(folder.manifest, folder.runs, [], 4800)
    assert folder.launch(2) is None  # the other arm is as it was
    assert sorted((entry.arm, entry.seed) for entry in folder.manifest.runs) == [
        ("A", 0), ("A", 1), ("A", 2), ("B", 2)
    ]  # fmt: skip


def test_a_manifest_of_before_is_extended_by_what_has_the_same_ids_and_keys(folder: Folder) -> None:
    folder.launch(0)
    folder.forget_recipe()
    assert not folder.manifest.states_recipe
    assert folder.launch(1) is None
    assert folder.seeds == [0, 1]
    assert folder.manifest.states_recipe


def test_other_data_are_another_recipe(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.launch(0)
    before = folder.manifest.data_digest
    other = replace(catalogue.CATALOGUE["digits"], sha256="f" * 64)
    monkeypatch.setitem(catalogue.CATALOGUE, "digits", other)
    key._cached_key.cache_clear()
    difference = folder.launch(1)
    key._cached_key.cache_clear()
    assert difference is not None
    assert difference.what == "data"
    assert f"they had digest {before} and have {folder.manifest.data_digest}" in difference.reason
    assert folder.seeds == [1]


def test_settings_and_digests_are_of_the_folder_in_which_the_grid_was_launched(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place, first in (("here", 0), ("there", 100)):
        (tmp_path / place).mkdir()
        pixels = reference_images("digits").pixels[first : first + 40].transpose(0, 2, 3, 1)
        np.savez(tmp_path / place / "mine.npz", arr_0=pixels)
    monkeypatch.chdir(tmp_path / "here")
    settings = {**SETTINGS, "evaluation.reference": "mine.npz", "evaluation.metrics": ["fid"]}
    folder.launch(0, settings=settings)
    assert folder.manifest.settings["evaluation.reference"] == str(tmp_path / "here" / "mine.npz")
    monkeypatch.chdir(tmp_path / "there")
    made = extension(folder.manifest, folder.runs, [], 4800)
    assert made is not None
    assert {p.spec.key.digest for p in made.planned if p.spec.key} == {e.key for e in folder.manifest.runs}
    assert folder.launch(1, settings=settings) is not None  # another file
    assert folder.seeds == [1]


def test_a_report_refuses_two_recipes_in_a_row(tmp_path: Path) -> None:
    path = synthetic_records.write(tmp_path, synthetic_records.basic_metrics)
    content = json.loads(path.read_text())
    del content["base_digest"], content["data_digest"]
    path.write_text(json.dumps(content))
    report(load(path, tmp_path), tmp_path / "out")
    (page,) = tmp_path.glob("out/*/*/results.md")
    assert RECIPE_NOT_STATED in page.read_text()
    first, second = [entry for entry in content["runs"] if entry["arm"] == content["runs"][0]["arm"]][:2]
    run = RunDir(tmp_path / second["run_id"])
    other = run.config().model_copy(update={"training": run.config().training.model_copy(update={"lr": 0.5})})
    second["run_id"] = RunDir.create(tmp_path, other).run_id
    path.write_text(json.dumps(content))
    with pytest.raises(
        UserError, match=rf"has runs of two recipes: {first['run_id']} and .* differ in training.lr; launch"
    ):
        load(path, tmp_path)
