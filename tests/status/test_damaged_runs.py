"""What a damaged file of an interrupted run costs: every kind of file, damaged in ten ways, before the next launch.

Whatever it is, no command ends in a traceback, no number differs, and what was whole is kept.
"""

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

import tests.support.tiny as tiny
from ablations import launch
from tests.support import damaged_run, forked, managing
from tests.support.damaged_run import FILES, WAYS
from tests.support.tiny_grid import arguments

ROOT = Path(__file__).parents[2]
ARM = "M = 1, P = 2"
LETTERS = {"d": "done", "s": "set aside", "a": "made again", "r": "refused"}
# In the columns of WAYS: cut, zeros, one bit, another run's, empty, a folder, a pipe, deleted, no permission, another
# version. Of "another run's": the runs' requests and settings are equal, their states and logs decide nothing.
TABLE = {
    "config":             "r r r r r r r d r r",
    "request":            "r r r d r r r d r r",
    "order of requests":  "d d d d d d d d d d",
    "execution settings": "r r r d r r r d r r",
    "owner":              "d d d d d d d d d d",
    "state":              "r r r d r r r d r d",
    "provenance":         "d d d d d d d d d d",
    "output":             "d d d d d d d d d d",
    "loss log":           "d d d d d d d d d d",
    "newest checkpoint":  "s s s s s s s d s s",
    "weights, measured":  "d d d d d d d d d d",
    "weights to measure": "a a a a a a a r r a",
    "record":             "s s s s s s s d s s",
    "samples":            "d d d d d d d d d d",
    "evaluation's owner": "d d d d d d d d d d",
    "evaluation's state": "d d d d d d d d d d",
}  # fmt: skip
QUICK = {
    (kind, way) for number, kind in enumerate(FILES) for index, way in enumerate(WAYS) if index == number % len(WAYS)
}
CASES = [
    pytest.param(kind, way, LETTERS[letter], marks=() if (kind, way) in QUICK else pytest.mark.slow)
    for kind, row in TABLE.items()
    for way, letter in zip(WAYS, row.split(), strict=True)
]
KEPT = ("config.json", "requests/", "machine.json", "provenance-1", "train-1", "milestones/8/", "milestones/16/")


def settings(steps: int) -> list[str]:
    """The settings of tiny runs of so many steps."""
    changed = {**tiny.SETTINGS, "training.steps": steps, "training.milestones": list(range(8, steps + 1, 8))}
    return [part for key, value in changed.items() if key != "model.hourglass" for part in ("--set", f"{key}={value}")]


def launched(runs: Path, steps: int) -> Path:
    """The grid, launched by a process that has ended."""
    command = [sys.executable, "ablations/launch.py", *arguments(runs, settings=settings(steps))]
    ended = forked.run(command, cwd=ROOT)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return runs


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return launched(tmp_path_factory.mktemp("interrupted") / "runs", 16)


@pytest.fixture(scope="module")
def undamaged(interrupted: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The metrics of the run that goes on without damage."""
    runs = tmp_path_factory.mktemp("undamaged") / "runs"
    shutil.copytree(interrupted, runs)
    assert launch.main([*arguments(runs, "--only", ARM, settings=settings(24)), "--executor", "debug"]) == 0
    found = damaged_run.metrics(managing.folder(runs, "m1p2"))
    assert found.keys() == {"8", "16", "24"}
    return found


def contents(runs: Path) -> dict[str, bytes]:
    """What has to stay as it is: what runs were made of, and what they made."""
    files = (path for path in runs.rglob("*") if path.is_file() and os.access(path, os.R_OK))
    named = {path.relative_to(runs).as_posix(): path for path in files}
    return {name: path.read_bytes() for name, path in named.items() if name.partition("/")[2].startswith(KEPT)}


def test_the_table_is_whole() -> None:
    assert TABLE.keys() == FILES.keys()
    assert {way for _, way in QUICK} == WAYS.keys()


@pytest.mark.parametrize(("kind", "way", "expected"), CASES)
def test_a_damaged_file(
    kind: str,
    way: str,
    expected: str,
    interrupted: Path,
    undamaged: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    runs = shutil.copytree(interrupted, tmp_path / "runs")
    run, other = managing.folder(runs, "m1p2"), managing.folder(runs, "m2p1")
    path = damaged_run.damaged(kind, way, run, other)
    if way == "no permission" and os.access(path, os.R_OK):
        pytest.skip("root may read everything")
    whole = contents(runs)
    whole.pop(str(path.relative_to(runs)), None)
    if kind == "weights to measure":  # their evaluation is made anew
        whole = {name: content for name, content in whole.items() if f"{run.run_id}/milestones/16/" not in name}
    elif kind == "record":
        whole = {name: content for name, content in whole.items() if str(path.parent.relative_to(runs)) not in name}

    state = managing.rows(capsys, runs)[ARM]["state"]
    assert state in ("done", "pending", "failed")
    outcome = damaged_run.relaunch(arguments(runs, "--only", ARM, settings=settings(24)), run, path)
    assert outcome == expected
    if outcome != "refused":
        assert damaged_run.metrics(run) == undamaged
        assert managing.rows(capsys, runs)[ARM]["state"] == "done"
    now = contents(runs)
    assert {name: now.get(name) == content for name, content in whole.items()} == dict.fromkeys(whole, True)
