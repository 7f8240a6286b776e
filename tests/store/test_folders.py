"""Something else in the place of a folder is said in one line, and stays as it is."""

from collections.abc import Callable
from pathlib import Path

import pytest

import tests.support.tiny as tiny
from diffussm.config import Request
from diffussm.errors import UserError
from diffussm.store.rundir import RunDir
from diffussm.store.writing import write_atomically, write_once

USES: dict[str, Callable[[RunDir], object]] = {
    "orders": lambda run: run.cancelled,
    "asked": lambda run: run.add_requests([Request.from_config(tiny.config())]),
    "milestones/24/0123456789ab": lambda run: run.evaluation(24, "0123456789ab").claim(),
    "checkpoints": lambda run: write_atomically(run.checkpoint(8, 1), b""),
    "milestones/8": lambda run: write_once(run.weights(8, "ema"), b""),
}


def a_file(place: Path) -> None:
    place.write_text("mine")


def a_link_to_itself(place: Path) -> None:
    place.symlink_to(place.name)


@pytest.mark.parametrize("lay", [a_file, a_link_to_itself])
@pytest.mark.parametrize("name", USES)
def test_what_is_no_folder_is_named(tmp_path: Path, name: str, lay: Callable[[Path], None]) -> None:
    run = RunDir.create(tmp_path, tiny.config())
    place = run.path / name
    place.parent.mkdir(parents=True, exist_ok=True)
    lay(place)
    with pytest.raises(UserError, match=f"{name}: .*rename what is there"):
        USES[name](run)
    assert place.is_symlink() or place.read_text() == "mine"
