"""`machine.json`: decided once, read by later versions, and refused by name where it is damaged."""

import json
from pathlib import Path

import pytest

from diffussm.config import BACKEND_NAMES
from diffussm.errors import UserError
from diffussm.store.execution import Execution
from diffussm.store.rundir import RunDir
from tests.support import damage, tiny

FIRST = Execution(backend="fft", threads=2, device="cpu", micro_batches=3)


def test_the_first_decision_is_kept(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path, tiny.config())
    assert run.execution() is None
    assert run.decide_execution(FIRST) == FIRST
    assert run.decide_execution(FIRST.model_copy(update={"backend": "chunked"})) == FIRST
    assert run.execution() == FIRST


def test_the_names_on_disk(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path, tiny.config())
    run.decide_execution(FIRST)
    stored = json.loads((run.path / "machine.json").read_text())
    assert stored == {
        "backend": "fft", "threads": 2, "device": "cpu", "shares": 3,
        "compile": "none", "checkpointing": "none", "micro_batch": 0,
    }  # fmt: skip


def test_every_backend_can_be_stored() -> None:
    for backend in BACKEND_NAMES:
        assert FIRST.model_validate({**FIRST.model_dump(), "backend": backend})


def test_a_run_that_began_before_later_settings_were_stored(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path, tiny.config())
    (run.path / "machine.json").write_text('{"backend": "fft", "threads": 2, "device": "cpu"}')
    execution = run.execution()
    assert execution is not None
    assert execution.micro_batches == 1
    assert execution.step_settings == {"compile": "none", "checkpointing": "none", "micro_batch": 0}


@pytest.mark.parametrize("how", damage.EVERY_WAY)
def test_damage_names_the_file(how: str, tmp_path: Path) -> None:
    run = RunDir.create(tmp_path, tiny.config())
    path = run.path / "machine.json"
    damage.corrupt(path, how)
    with pytest.raises(UserError, match=rf"^{path}: is damaged: .*; restore it, or delete it"):
        run.decide_execution(FIRST)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ({"threads": 2, "device": "cpu"}, "backend: is missing"),
        ({"backend": "fft", "threads": 0, "device": "cpu"}, "threads = 0: allowed: 1 or more"),
        ({"backend": "fft", "threads": "2", "device": "cpu"}, "threads = '2': allowed: a whole number"),
        ({"backend": "warp", "threads": 2, "device": "cpu"}, "backend = 'warp': unknown backend; valid: reference"),
        (
            {"backend": "fft", "threads": 2, "device": "cpu", "stages": 2},
            "stages: unknown field, perhaps of a later version",
        ),
    ],
)
def test_what_is_wrong_is_named(content: object, what: str, tmp_path: Path) -> None:
    """A field of a later version may change the numbers: the run is not continued without it."""
    run = RunDir.create(tmp_path, tiny.config())
    (run.path / "machine.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=what):
        run.execution()
