"""What a grid file may hold, and the reading of one. Whatever is wrong in it becomes a line that names file and key."""

import contextlib
import json
import math
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from ablations.grid.checks import check
from ablations.grid.messages import LONGEST_NAME, describe, dotted, quoted, shown
from diffussm.config import Section, keys, split_key
from diffussm.errors import UserError, unknown

GRIDS = Path(__file__).parents[1] / "grids"
FILE_NAME = r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*"
MOST_NESTED = 10  # tables and lists in one another
SECTIONS = {key.split(".")[0] for key in keys() if "." in key}  # of the config
WHOLE_NUMBERS = range(-(2**63), 2**63)  # those of TOML
WHOLE_NUMBERS_SAID = "whole numbers from -2**63 to 2**63 - 1"

Overrides = dict[str, Any]  # config keys, dotted or as nested tables
Levels = dict[str, str]  # axis -> level
Pattern = dict[str, str | tuple[str, ...]]  # axis -> the level, or any of the levels

Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Text = Annotated[str, Field(min_length=1)]


class Resources(Section):
    """What a run needs of a machine, where that is more than the executor gives by itself. Changes no result."""

    cpus: Positive | None = None
    gpus: Positive | None = None
    memory_gb: Annotated[float, Field(gt=0)] | None = None
    hours: Annotated[float, Field(gt=0)] | None = None  # for schedulers; a local pool knows no time limit

    def slots(self, threads: int) -> int:
        """Slots of a local pool that a run takes; each has `threads` threads, and a GPU if there are any."""
        return max(self.gpus or 1, -(-(self.cpus or 1) // threads))


class GridFile(Section):
    """A grid: axes of named levels, or named arms, or both; on one base or several."""

    claim: Text
    source: Text
    expected: Text
    cost: Text
    command: Text
    base: str | Annotated[tuple[str, ...], Field(min_length=1)]
    seeds: Positive | Annotated[tuple[Count, ...], Field(min_length=1)]  # how many, from 0; or which
    matched: tuple[Literal["parameters", "macs"], ...] = ()  # what is equal across arms
    axes: dict[str, dict[str, Overrides]] = Field(default_factory=dict)
    combine: Literal["product", "one-at-a-time"] = "product"
    zip: tuple[tuple[str, ...], ...] = ()  # axes that go in step, as one
    when: dict[str, Pattern] = Field(default_factory=dict)  # an axis that applies only at some levels of others
    include: tuple[Levels, ...] = ()
    exclude: tuple[Pattern, ...] = ()
    arms: dict[str, Overrides] = Field(default_factory=dict)
    control: str | Levels | None = None  # of one-at-a-time and of budget = "macs": an arm by its name or its levels
    budget: Literal["steps", "macs"] = "steps"  # what the training of every arm is matched in
    max_runs: Positive = 20_000

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        check(self)
        for where, overrides in _all_overrides(self):
            with _at(where):
                flatten(overrides)
        return self

    @property
    def bases(self) -> tuple[str, ...]:
        return (self.base,) if isinstance(self.base, str) else self.base

    @property
    def seed_list(self) -> tuple[int, ...]:
        return tuple(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds


def grids() -> list[str]:
    return sorted(path.stem for path in GRIDS.glob("*.toml"))


def locate(name: str) -> Path:
    """The grid `grids/<name>.toml`, or the file `name` if it ends in .toml."""
    path = Path(name) if name.endswith(".toml") else GRIDS / f"{name}.toml"
    if not os.path.isfile(path):
        if not name.endswith(".toml"):
            raise unknown("grid", name, [*grids(), "path/to/grid.toml"])
        what = "it is a folder" if os.path.isdir(path) else "there is no such file"
        raise UserError(f"--grid {name!r}: {what}; allowed: the path of a .toml file, or a grid's name")
    if len(path.stem) > LONGEST_NAME or not re.fullmatch(FILE_NAME, path.stem):
        raise UserError(
            f"{quoted(path.name)}: a grid's file name has 1 to {LONGEST_NAME} letters, digits and _ - . only, begins "
            "with a letter or digit and has no .., for it names folders"
        )
    return path


def load(name: str) -> GridFile:
    """The grid of that name or path; UserError naming file and key for whatever is wrong in it."""
    path = locate(name)
    with naming(path):
        tree = _read(path)
        _check_values(tree)
        try:
            return GridFile.model_validate_json(json.dumps(tree))
        except ValidationError as error:
            raise UserError(describe(error, GridFile, tree)) from None


def _read(path: Path) -> dict[str, Any]:
    """The file as TOML; UserError with the line for what is none."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"byte {error.start}: not UTF-8, which TOML is") from None
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}") from None
    if text.startswith("\N{BYTE ORDER MARK}"):
        raise UserError("byte 0: a byte-order mark; allowed: UTF-8 without one")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise UserError(f"nested too deeply; allowed: up to {MOST_NESTED} tables and lists in one another") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"not TOML: {error}{_line_at_fault(str(error), text)}") from None
    except ValueError:  # Python's own, of a number with thousands of digits
        raise UserError(f"not TOML: a number is too large; allowed: {WHOLE_NUMBERS_SAID}") from None


def _line_at_fault(message: str, text: str) -> str:
    found, lines = re.search(r"at line (\d+)", message), text.split("\n")
    return f": {shown(lines[int(found[1]) - 1])}" if found else ""


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put the file's name before the message of any UserError."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{path.name}: {error}") from None


def split_level(overrides: Mapping[str, Any]) -> tuple[Overrides, Resources | None]:
    """A level's overrides as dotted keys, and the resources it asks for."""
    rest = dict(overrides)
    resources = _resources(rest.pop("resources")) if "resources" in rest else None
    flat: Overrides = {}
    for key, value in _leaves(rest, ""):
        if key in flat:
            raise UserError(f"{key}: is there twice, as a dotted key and in a table; each may be there once")
        flat[key] = value
    return flat, resources


def flatten(overrides: Mapping[str, Any]) -> Overrides:
    """A level's overrides as dotted keys, each checked against the config."""
    return split_level(overrides)[0]


def _resources(asked: Any) -> Resources:
    try:
        return Resources.model_validate_json(json.dumps(asked))
    except ValidationError as error:
        raise UserError(describe(error, Resources, asked, "resources")) from None


def _leaves(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and (value or key in SECTIONS):  # an empty table is no field's value
            yield from _leaves(value, f"{key}.")
        else:
            split_key(key)
            yield key, value


def _all_overrides(grid: GridFile) -> Iterator[tuple[str, Overrides]]:
    for axis, levels in grid.axes.items():
        for level, overrides in levels.items():
            yield f"axes.{axis}.{level}", overrides
    for arm, overrides in grid.arms.items():
        yield f"arms.{arm}", overrides


@contextlib.contextmanager
def _at(where: str) -> Iterator[None]:
    """Whatever is wrong inside becomes a ValueError of the grid that says where."""
    try:
        yield
    except (UserError, TypeError) as error:
        raise ValueError(f"{where}: {error}") from None


def _check_values(value: Any, *where: str | int) -> None:
    """TOML has dates, times, inf and nan, which no field takes; and tomllib reads more whole numbers than TOML has."""
    if len(where) > MOST_NESTED:
        raise UserError(f"{dotted(*where)}: nested too deeply; allowed: up to {MOST_NESTED} tables and lists")
    if isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            _check_values(part, *where, key)
    elif isinstance(value, int) and value not in WHOLE_NUMBERS:
        raise UserError(f"{dotted(*where)}: is too large a number; allowed: {WHOLE_NUMBERS_SAID}")
    elif not isinstance(value, str | int | float) or (isinstance(value, float) and not math.isfinite(value)):
        raise UserError(f"{dotted(*where)} = {value}: allowed: strings, finite numbers, true, false, lists, tables")
