"""A launched grid, which is trained once for all tests."""

import shutil
from pathlib import Path

import pytest

from ablations import launch
from tests.support.tiny_grid import arguments


@pytest.fixture(scope="session")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("launched") / "runs"
    assert launch.main(arguments(runs, "--executor", "debug")) == 0
    return runs


@pytest.fixture
def runs(launched: Path, tmp_path: Path) -> Path:
    shutil.copytree(launched, tmp_path / "runs")
    return tmp_path / "runs"
