"""Names that become parts of paths, and the folder that no path built of them leaves."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from diffussm.errors import UserError

MAX_LENGTH = 200  # characters
RULE = f"the name of a file or folder: up to {MAX_LENGTH} printable characters without / and no dot at its start"


def is_name(text: str) -> bool:
    """Return whether the text is one part of a path: it neither is nor leads to another folder."""
    return 0 < len(text) <= MAX_LENGTH and text.isprintable() and "/" not in text and not text.startswith(".")


def _check(text: str) -> str:
    if not is_name(text):
        raise ValueError(f"allowed: {RULE}")
    return text


Name = Annotated[str, AfterValidator(_check)]  # of stored models: run ids, grids, bases, digests


def child(folder: Path, *names: str) -> Path:
    """Return the path of these names below the folder; raise UserError if one of them is not a name."""
    for name in names:
        if not is_name(name):
            raise UserError(f"{folder}: {name!r} is no name of anything in it; allowed: {RULE}")
    return folder.joinpath(*names)


def check_inside(folder: Path, path: Path) -> None:
    """Raise UserError if the path, once all links are followed, is not below the folder."""
    found = path.resolve()
    if folder.resolve() not in found.parents:
        raise UserError(f"{path}: leads out of {folder}, to {found}; it is left alone")
