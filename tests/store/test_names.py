"""Names that become parts of paths: one rule, which every stored model keeps."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from ablations.slurm.submissions import Submission, closing_marker
from diffussm.errors import UserError
from diffussm.store.manifests import Entry, Manifest
from diffussm.store.names import MAX_LENGTH, check_inside, child, is_name
from diffussm.store.reading import read_model
from diffussm.store.records import Record
from diffussm.store.rundir import RunDir
from diffussm.store.writing import to_json
from tests.support.damage import NO_NAMES

FIXTURE = Path(__file__).parents[1] / "fixtures" / "run_of_26dc89b" / "runs"
MANIFEST = next(FIXTURE.glob("grids/*.json"))
FIELDS: list[tuple[type[BaseModel], str]] = [
    (Entry, "run_id"),
    (Entry, "request"),
    (Entry, "key"),
    (Manifest, "grid"),
    (Manifest, "base"),
    (Submission, "job"),
    (Submission, "runs"),
    (Submission, "code"),
]


def content(model: type[BaseModel]) -> dict[str, Any]:
    """The content of a valid file."""
    if model is Submission:
        return {"job": "7", "kind": "train", "runs": ["digits-a"], "code": "0123456789ab"}
    manifest = read_model(MANIFEST, Manifest)
    return (manifest.runs[0] if model is Entry else manifest).model_dump(mode="json")


@pytest.mark.parametrize("name", NO_NAMES)
def test_what_is_no_name(name: str, tmp_path: Path) -> None:
    assert not is_name(name)
    with pytest.raises(UserError, match="is no name of anything in it; allowed: the name of a file or folder"):
        child(tmp_path, "a", name)


@pytest.mark.parametrize(
    "name", ["a", "digits-diffussm-s4d-d1w8-m4p1-s0-0bddfaa1a881", "a..b", "größe", "x" * MAX_LENGTH]
)
def test_what_is_a_name(name: str, tmp_path: Path) -> None:
    assert child(tmp_path, "a", name) == tmp_path / "a" / name
    check_inside(tmp_path, child(tmp_path, name))


@pytest.mark.parametrize("name", NO_NAMES)
@pytest.mark.parametrize(("model", "field"), FIELDS, ids=[f"{model.__name__}.{field}" for model, field in FIELDS])
def test_no_stored_file_has_one(model: type[BaseModel], field: str, name: str, tmp_path: Path) -> None:
    valid = content(model)
    path = tmp_path / "stored.json"
    path.write_bytes(to_json(valid))
    read_model(path, model)
    path.write_bytes(to_json(valid | {field: [name] if field == "runs" else name}))
    with pytest.raises(UserError, match=f"is damaged: {field}"):
        read_model(path, model)


@pytest.mark.parametrize("name", NO_NAMES)
def test_no_record_is_of_one(name: str) -> None:
    with pytest.raises(ValidationError, match=r"run_id\n  Value error, allowed: the name of a file or folder"):
        Record.model_validate({"run_id": name})


@pytest.mark.parametrize("name", NO_NAMES)
def test_no_path_is_built_of_one(name: str, tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    for build in (lambda: run.record(8, name), lambda: run.evaluation(8, name)):
        with pytest.raises(UserError, match="is no name"):
            build()
    if "/" in name:  # others are not at the start of the file's name
        with pytest.raises(UserError, match="is no name"):
            run.weights(8, name)
        with pytest.raises(UserError, match="is no name"):
            closing_marker(tmp_path, name)


def test_links_lead_out(tmp_path: Path) -> None:
    folder, outside = tmp_path / "in", tmp_path / "out"
    for made in (folder, outside):
        made.mkdir()
    (folder / "link").symlink_to(outside)
    (folder / "inner").symlink_to(folder / "real")
    (tmp_path / "way").symlink_to(folder)
    check_inside(folder, folder / "inner" / "file")
    check_inside(tmp_path / "way", folder / "file")
    for path in (folder / "link", folder / "link" / "file", outside, folder, folder / ".." / "out"):
        with pytest.raises(UserError, match="leads out of"):
            check_inside(folder, path)
