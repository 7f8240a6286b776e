"""Manifests: merged, read by later versions, and refused by name where they are damaged."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from diffussm.errors import UserError
from diffussm.store import manifests
from diffussm.store.manifests import Manifest
from diffussm.store.reading import read_model
from tests.support import damage

FIXTURE = Path(__file__).parents[1] / "fixtures" / "run_of_26dc89b" / "runs" / "grids"
NAME = "hourglass_vs_patch-digits.1.json"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    shutil.copytree(FIXTURE, tmp_path / "grids")
    return tmp_path


def content(runs: Path) -> dict[str, Any]:
    return json.loads((runs / "grids" / NAME).read_text())


def store(runs: Path, content: dict[str, Any], name: str = NAME) -> None:
    (runs / "grids" / name).write_text(json.dumps(content))


def the_same(old: Manifest | None) -> Manifest:
    assert old is not None
    return old


def test_the_names_on_disk(runs: Path) -> None:
    """What an older version wrote is read, and written under the same names; what it lacks is empty."""
    manifest = read_model(runs / "grids" / NAME, Manifest)
    assert manifest.model_dump(mode="json", exclude_unset=True) == content(runs)
    assert {entry.key_content for entry in manifest.runs} == {""}


def test_a_manifest_without_control(runs: Path) -> None:
    older = content(runs)
    del older["control"]
    store(runs, older)
    (manifest,) = manifests.read_undamaged(runs, None, None)
    assert manifest.control is None
    manifests.add(runs, "hourglass_vs_patch", "digits", the_same)
    assert [path.name for path in (runs / "grids").iterdir()] == [NAME]  # nothing was asked that is not there


def test_what_is_asked_is_added_under_the_next_number(runs: Path) -> None:
    manifests.add(runs, "hourglass_vs_patch", "digits", lambda old: the_same(old).model_copy(update={"claim": "mine"}))
    (path,) = manifests.newest(runs)
    assert path.name == "hourglass_vs_patch-digits.2.json"
    assert read_model(path, Manifest) == read_model(runs / "grids" / NAME, Manifest).model_copy(
        update={"claim": "mine"}
    )


def test_which_manifests_are_meant(runs: Path) -> None:
    store(runs, content(runs) | {"base": "digits16"}, "hourglass_vs_patch-digits16.1.json")
    store(runs, content(runs) | {"grid": "other"}, "other-digits.3.json")
    found = [
        (m.grid, m.base)
        for grid, base in ((None, None), ("other", None), (None, "digits16"))
        for m in manifests.read_undamaged(runs, grid, base)
    ]
    grid = "hourglass_vs_patch"
    assert found == [(grid, "digits"), (grid, "digits16"), ("other", "digits"), ("other", "digits"), (grid, "digits16")]
    with pytest.raises(UserError, match="unknown name 'othr'; did you mean 'other'"):
        manifests.find_required(runs, "othr", None)
    with pytest.raises(UserError, match="unknown name 'other on digits16'"):
        manifests.find_required(runs, "other", "digits16")


@pytest.mark.parametrize("how", damage.EVERY_WAY)
def test_nothing_is_merged_into_a_damaged_one(how: str, runs: Path) -> None:
    damage.corrupt(runs / "grids" / NAME, how)
    with pytest.raises(UserError, match=rf"^{runs}/grids/{NAME}: is damaged: .*delete it and launch the grid again"):
        manifests.add(runs, "hourglass_vs_patch", "digits", the_same)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"claim": None}, "claim = None: allowed: a string"),
        ({"budget": "hours"}, "budget = 'hours': allowed: 'steps' or 'macs'"),
        ({"tags": ["x"]}, "tags: unknown field, perhaps of a later version"),
        ({"runs": [{}]}, r"runs\[0\].arm: is missing"),
        ({"runs": {}}, "runs = {}: allowed: a list"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, Any], what: str, runs: Path) -> None:
    store(runs, content(runs) | change)
    with pytest.raises(UserError, match=what):
        manifests.find_required(runs, None, None)


def test_a_run_outside_the_folder_is_refused(runs: Path) -> None:
    wrong = content(runs)
    wrong["runs"][0]["run_id"] = "../elsewhere"
    store(runs, wrong)
    with pytest.raises(UserError, match=r"runs\[0\]\.run_id = '\.\./elsewhere'"):
        manifests.find_required(runs, None, None)
