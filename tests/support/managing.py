"""The commands of manage.py, called here."""

import json
from pathlib import Path
from typing import Any

import pytest

from ablations import manage
from diffussm.store.rundir import RunDir


def folder(runs: Path, part: str) -> RunDir:
    """The run whose id has this part."""
    return RunDir(next(runs.glob(f"*{part}*/config.json")).parent)


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert manage.main(list(words)) == 0
    return capsys.readouterr().out


def status(capsys: pytest.CaptureFixture[str], runs: Path, *more: str) -> dict[str, Any]:
    return json.loads(printed(capsys, "status", "--runs", str(runs), "--json", *more))


def rows(capsys: pytest.CaptureFixture[str], runs: Path) -> dict[str, Any]:
    """Arm -> its row of the status."""
    return {row["arm"]: row for row in status(capsys, runs)["runs"]}
