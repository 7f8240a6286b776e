"""For tests of `diffussm evaluate`: the command, an evaluated run, samples in a file, and checks of results."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tests.support.tiny as tiny
from diffussm import cli
from diffussm.data.load import reference_images
from diffussm.run.claim import assume_owner_dead
from diffussm.run.runner import TaskRunner
from diffussm.store import records
from diffussm.store.rundir import RunDir

ROOT = Path(__file__).parents[2]
DIGITS = ("--reference", "digits", "--extractor", "digits-cnn")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def diffussm(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: Any) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["diffussm", *map(str, arguments)])
        code = cli.main()
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


METRICS = ["fid", "sfid", "kid", "recall", "label_accuracy"]


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """Return a trained and evaluated run; never modified."""
    cached = pytest.MonkeyPatch()
    cached.setenv("DIFFUSSM_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    run = tiny.run_folder(tmp_path_factory.mktemp("runs"), evaluation__metrics=METRICS)
    TaskRunner(run.path).run_pending(assume_owner_dead)
    cached.undo()
    return run


@pytest.fixture
def run(evaluated: RunDir, tmp_path: Path) -> RunDir:
    """Return a copy of the trained run, without its evaluations."""
    copy = RunDir(tmp_path / evaluated.run_id)
    shutil.copytree(evaluated.path, copy.path)
    for folder in copy.evaluations():
        shutil.rmtree(folder.path)
    return copy


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return reference_images("digits").pixels[100:112]


@pytest.fixture
def npz(pixels: np.ndarray, tmp_path: Path) -> Path:
    path = tmp_path / "samples.npz"
    np.savez(path, arr_0=pixels.transpose(0, 2, 3, 1))
    return path


def listed(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def result(run: RunDir, step: int = 24) -> dict[str, Any]:
    """Return everything of the only evaluation of a step that must be the same to the bit."""
    (path,) = run.path.glob(f"milestones/{step}/*/record.json")
    record = json.loads(path.read_text())
    files = {name: (path.parent / name).read_bytes() for name in ("samples.npz", "samples.png")}
    return {name: record[name] for name in ("run_id", "step", "key", "metrics")} | files | {"in": path.parent.name}


def assert_complete_evaluation(run: RunDir, step: int = 24) -> None:
    (folder,) = run.milestone(step).glob("*/")
    assert listed(folder) == ["record.json", "samples.npz", "samples.png"]


def assert_error(outcome: tuple[int, str, str], text: str) -> None:
    code, out, err = outcome
    assert (code, out) == (2, ""), err
    assert err.startswith("error: ")
    assert err.count("\n") == 1, err
    assert text in err


def parsed(out: str) -> dict[str, records.Record]:
    found = json.loads(out)
    return {one.pop("path"): records.Record.model_validate_json(json.dumps(one)) for one in found}
