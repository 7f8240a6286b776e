"""Every kind of stored file: which fields must be there, and what becomes of fields of a later version."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from ablations.plan.calibration import Calibration
from ablations.slurm.submissions import Submission
from diffussm.config import Request
from diffussm.errors import UserError
from diffussm.store.execution import Execution, HeldSettings, OrderedSettings
from diffussm.store.manifests import Manifest
from diffussm.store.orders import Asked, Order
from diffussm.store.owner import Owner, Process
from diffussm.store.reading import read_model
from diffussm.store.records import Record
from diffussm.store.rundir import StoredConfig
from diffussm.store.state import State
from tests.support import tiny

FIXTURE = Path(__file__).parents[1] / "fixtures" / "run_of_26dc89b" / "runs"
(RUN,) = FIXTURE.glob("digits-*")
PROCESS = {"place": "far", "pid": 1, "started": "1"}
TIMES = {"seconds_per_step": 0.1, "seconds_per_image_and_call": 0.1, "evaluation_seconds": 1.0}
KEY = {
    "extractor": "e", "extractor_sha256": "0", "reference": "digits", "reference_sha256": "0", "reference_samples": 1,
    "samples": 1, "sampler": "ddim", "sampler_steps": 1, "guidance": 1.0, "clip": True, "weights": "ema",
    "metrics": ["fid"], "transform": "none",
}  # fmt: skip
DECIDE: list[tuple[type[BaseModel], Any]] = [  # what is done: an unknown field may change what is meant
    (Manifest, json.loads(next((FIXTURE / "grids").glob("*.json")).read_text())),
    (StoredConfig, json.loads((RUN / "config.json").read_text())),
    (Request, Request.from_config(tiny.config()).model_dump(mode="json")),
    (Order, {"order": "retry", "forgiven": {".": 1}}),
    (Asked, {"request": "0123456789ab"}),
    (Execution, {"backend": "fft", "threads": 1, "device": "cpu", "shares": 1}),
    (OrderedSettings, {"attempt": 1, "compile": "block", "checkpointing": "block", "micro_batch": 4}),
    (HeldSettings, {"step": 8, "compile": "block", "checkpointing": "block", "micro_batch": 4}),
    (Submission, {"job": "12", "kind": "train", "runs": ["a"], "code": "c", "submitted": "t"}),
    (Record, {"run_id": "r", "step": 8, "key": KEY, "metrics": {"fid": 1.0}, "timing": {}, "provenance": {}}),
]
DESCRIBE: list[tuple[type[BaseModel], Any]] = [  # how far work is: more may be reported
    (State, {"phase": "train", "attempt": 1, "heartbeat": 3, "step": 8}),
    (Owner, {**PROCESS, "job": "12_0", "claimed": "t"}),
    (Process, PROCESS),
    (Calibration, {"machine": {}, "entries": {"s": {"macs_per_step": 1, "macs_per_call": None, **TIMES}}}),
]
OPTIONAL = {
    "claimed",
    "submitted",
    "control",
    "shares",
    "forgiven",
    "heartbeat",
    "step",
    "job",
    "provenance",
    "compile",
    "checkpointing",
    "micro_batch",
}  # files exist without them
REQUIRED = [
    (model, name)
    for model, content in (*DECIDE, *DESCRIBE)
    for name in content
    if name not in OPTIONAL or (model is Submission and name == "job") or (model is Record)
]


def read(folder: Path, model: type[BaseModel], content: Any) -> BaseModel:
    path = folder / "file.json"
    path.write_text(json.dumps(content))
    return read_model(path, model)


def content_of(model: type[BaseModel]) -> dict[str, Any]:
    return dict(next(content for known, content in (*DECIDE, *DESCRIBE) if known is model))


@pytest.mark.parametrize(("model", "name"), REQUIRED, ids=lambda value: getattr(value, "__name__", value))
def test_a_missing_field_is_named(model: type[BaseModel], name: str, tmp_path: Path) -> None:
    content = content_of(model)
    assert read(tmp_path, model, content)
    del content[name]
    with pytest.raises(UserError, match=rf"file\.json: is damaged: {name}: is missing"):
        read(tmp_path, model, content)


@pytest.mark.parametrize("model", [model for model, _ in DECIDE])
def test_an_unknown_field_of_what_decides_is_refused_by_name(model: type[BaseModel], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"file\.json: is damaged: novelty: unknown field, perhaps of a later version"):
        read(tmp_path, model, content_of(model) | {"novelty": 1})


@pytest.mark.parametrize("model", [model for model, _ in DESCRIBE])
def test_an_unknown_field_of_what_describes_is_kept(model: type[BaseModel], tmp_path: Path) -> None:
    stored = read(tmp_path, model, content_of(model) | {"novelty": 1})
    assert stored.model_dump(mode="json")["novelty"] == 1


def test_a_state_keeps_unknown_fields_when_it_changes() -> None:
    state = State.model_validate({"phase": "train", "attempt": 1, "novelty": 1})
    assert state.updated(phase="failed").reported() == {"phase": "failed", "attempt": 1, "novelty": 1}
