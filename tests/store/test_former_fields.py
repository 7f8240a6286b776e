"""Configs that earlier versions stored, with fields that nothing used then."""

import json
from pathlib import Path

import pytest

from diffussm.config import resolve
from diffussm.store.rundir import RunDir
from tests.support import tiny


@pytest.mark.parametrize("had", [{"root": "/there", "transform": "centre-crop 8"}, {"root": "", "transform": "none"}])
def test_former_fields_of_data_are_ignored(had: dict[str, str], tmp_path: Path) -> None:
    run = RunDir.create(tmp_path, tiny.config())
    path = run.path / "config.json"
    content = json.loads(path.read_text())
    content["config"]["data"] = {"name": "digits", **had}
    path.write_text(json.dumps(content))
    assert run.config().data == resolve("digits").data


def test_fields_of_that_name_are_kept_where_they_are_used(tmp_path: Path) -> None:
    settings = {"data.name": "mine", "data.root": "/there", "data.transform": "centre-crop 8", "data.digest": "ab" * 32}
    config = resolve("digits", settings)
    assert RunDir.create(tmp_path, config).config().data == config.data
