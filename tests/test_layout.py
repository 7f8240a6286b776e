"""Folders and files stay small enough to be read."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAX_FILES = 12  # Python files of a folder, beside __init__.py
MAX_LINES = 300
SOURCES = [
    file
    for room in ("diffussm", "ablations", "reports", "bench", "slurm", "tests")
    for file in (ROOT / room).rglob("*.py")
]


@pytest.mark.parametrize("room", ["diffussm", "ablations"])
def test_no_folder_is_crowded(room: str) -> None:
    folders = [ROOT / room, *(path for path in (ROOT / room).rglob("*") if path.is_dir())]
    files = {str(folder.relative_to(ROOT)): {file.name for file in folder.glob("*.py")} for folder in folders}
    crowded = {folder: len(names) for folder, names in files.items() if len(names - {"__init__.py"}) > MAX_FILES}
    assert crowded == {}


def test_no_file_is_long() -> None:
    lines = {str(file.relative_to(ROOT)): len(file.read_text().splitlines()) for file in SOURCES}
    assert len(lines) > 200
    assert {file: count for file, count in lines.items() if count > MAX_LINES} == {}
