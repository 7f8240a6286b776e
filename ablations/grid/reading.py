"""Reads grid files: every error in a file becomes a UserError of one line that names the file and the key."""

import contextlib
import json
import math
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ablations.grid.checks import check
from ablations.grid.schema import GridFile
from diffussm.config.schema_errors import MAX_NAME_LENGTH, describe, dotted, first_problem, quoted, shown
from diffussm.errors import UserError, unknown

GRIDS = Path(__file__).parents[1] / "grids"
FILE_NAME = r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*"
REQUIRED = [name for name, field in GridFile.model_fields.items() if field.is_required()]
MAX_NESTING = 10  # levels of tables and lists
WHOLE_NUMBERS = range(-(2**63), 2**63)  # the range of TOML
WHOLE_NUMBERS_TEXT = "whole numbers from -2**63 to 2**63 - 1"


def grids() -> list[str]:
    """Return the names of the grids in ablations/grids."""
    return sorted(path.stem for path in GRIDS.glob("*.toml"))


def locate(name: str) -> Path:
    """Return the path of the grid `grids/<name>.toml`, or `name` itself if it ends in .toml."""
    path = Path(name) if name.lower().endswith(".toml") else GRIDS / f"{name}.toml"
    if not os.path.isfile(path):
        if not name.lower().endswith(".toml"):
            raise unknown("grid", name, grids(), "the path of a .toml file")
        what = "it is a folder" if os.path.isdir(path) else "there is no such file"
        raise UserError(f"--grid {name!r}: {what}; allowed: the path of a .toml file, or a grid's name")
    if len(path.stem) > MAX_NAME_LENGTH or not re.fullmatch(FILE_NAME, path.stem):
        raise UserError(
            f"{quoted(path.name)}: a grid's file name has 1 to {MAX_NAME_LENGTH} letters, digits and _ - . only, "
            "begins with a letter or digit and has no .., because folders are named after it"
        )
    return path


def load(name: str) -> GridFile:
    """Return the grid of that name or path; raise UserError with the file and the key of the first error."""
    path = locate(name)
    with naming_file(path):
        tree = _read(path)
        _check_values(tree)
        try:
            grid = GridFile.model_validate_json(json.dumps(tree))
        except ValidationError as error:
            message = describe(error, GridFile, tree)
            if first_problem(error).is_missing:
                message += f"; a grid needs {', '.join(REQUIRED)}, above its first [table]"
            raise UserError(message) from None
        check(grid)
        return grid


def _read(path: Path) -> dict[str, Any]:
    """Return the parsed file; raise UserError with the line that is not valid TOML."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"byte {error.start}: not valid UTF-8, which TOML requires") from None
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}") from None
    if text.startswith("\N{BYTE ORDER MARK}"):
        raise UserError("byte 0: a byte-order mark; allowed: UTF-8 without one")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise UserError(f"nested too deeply; allowed: up to {MAX_NESTING} levels of tables and lists") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"not valid TOML: {error}{_line_at_fault(str(error), text)}") from None
    except ValueError:  # Python's own limit on the digits of a number
        raise UserError(f"not valid TOML: a number is too large; allowed: {WHOLE_NUMBERS_TEXT}") from None


def _line_at_fault(message: str, text: str) -> str:
    found, lines = re.search(r"at line (\d+)", message), text.split("\n")
    return f": {shown(lines[int(found[1]) - 1])}" if found else ""


class NotOfGrid(UserError):
    """A mistake that is not in the grid's file, but in the base or in an option; the message says where."""


@contextlib.contextmanager
def naming_file(path: Path) -> Iterator[None]:
    """Prepend the file's name to the message of any UserError that is about the grid."""
    try:
        yield
    except NotOfGrid:
        raise
    except UserError as error:
        raise UserError(f"{path.name}: {error}") from None


def _check_values(value: Any, *where: str | int) -> None:
    """Refuse dates, times, inf and nan, which no field allows, and whole numbers beyond the range of TOML."""
    if len(where) > MAX_NESTING:
        raise UserError(f"{dotted(*where)}: nested too deeply; allowed: up to {MAX_NESTING} levels of tables and lists")
    if isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            _check_values(part, *where, key)
    elif isinstance(value, int) and value not in WHOLE_NUMBERS:
        raise UserError(f"{dotted(*where)}: the number is too large; allowed: {WHOLE_NUMBERS_TEXT}")
    elif not isinstance(value, str | int | float) or (isinstance(value, float) and not math.isfinite(value)):
        raise UserError(f"{dotted(*where)} = {value}: allowed: strings, finite numbers, true, false, lists, tables")
