"""What a grid file may hold, and the reading of one. Whatever is wrong in it becomes a line that names file and key."""

import contextlib
import json
import math
import os
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from diffussm.config import Section, bases, keys, split_key
from diffussm.errors import UserError, unknown

GRIDS = Path(__file__).parent / "grids"
AXIS_NAME = r"[A-Za-z][A-Za-z0-9_-]*"
FILE_NAME = r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*"
NOT_IN_A_NAME = "\"'`\\|"
LONGEST_NAME = 80
MOST_AXES = 100
MOST_RUNS = 1_000_000  # that max_runs may allow
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
        _check_texts(self)
        _check_numbers(self)
        _check_names(self)
        _check_axes_named(self)
        _check_conditions(self)
        for where, overrides in _all_overrides(self):
            with _at(where):
                flatten(overrides)
        if self.combine == "one-at-a-time" and not self.axes:
            raise ValueError("combine: one-at-a-time needs axes, and there are none")
        if self.combine == "one-at-a-time" and not isinstance(self.control, dict):
            raise ValueError("control: one-at-a-time needs a table of axis = level to start from")
        if self.budget == "macs" and self.control is None:
            raise ValueError('control: budget = "macs" needs an arm to match, by its name or its levels')
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
            f"{_quoted(path.name)}: a grid's file name has 1 to {LONGEST_NAME} letters, digits and _ - . only, begins "
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
            raise UserError(_describe(error, tree)) from None


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
    return f": {_shown(lines[int(found[1]) - 1])}" if found else ""


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
        raise UserError(_describe(error, asked, "resources")) from None


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


def _check_texts(grid: GridFile) -> None:
    for field in ("claim", "source", "expected", "cost", "command"):
        if not getattr(grid, field).strip():
            raise ValueError(f"{field}: is blank; allowed: words")


def _check_numbers(grid: GridFile) -> None:
    """Nothing so large that to list it would take longer than to refuse it."""
    if grid.max_runs > MOST_RUNS:
        raise ValueError(f"max_runs = {grid.max_runs:,}: allowed: up to {MOST_RUNS:,}")
    if isinstance(grid.seeds, int) and grid.seeds > grid.max_runs:
        raise ValueError(f"seeds = {grid.seeds:,}: allowed: up to max_runs = {grid.max_runs:,}, or a higher max_runs")
    if len(grid.axes) > MOST_AXES:
        raise ValueError(f"axes: there are {len(grid.axes):,}; allowed: up to {MOST_AXES}")


def _check_names(grid: GridFile) -> None:
    if not grid.axes and not grid.arms:
        raise ValueError("axes, arms: a grid needs either or both, and has neither")
    for axis, levels in grid.axes.items():
        if not re.fullmatch(AXIS_NAME, axis) or axis == "arm" or len(axis) > LONGEST_NAME:
            raise ValueError(
                f"axes.{_quoted(axis)}: an axis is named by a letter and letters, digits, _ and -, {LONGEST_NAME} at "
                "most, and not 'arm'"
            )
        if not levels:
            raise ValueError(f"axes.{axis}: has no levels; needs one or more tables of overrides")
        for level in levels:
            _check_name(f"axes.{axis}", level)
    for arm in grid.arms:
        _check_name("arms", arm)
    for field, values in (("base", grid.bases), ("seeds", grid.seed_list), ("matched", grid.matched)):
        if twice := [value for value, count in Counter(values).items() if count > 1]:
            raise ValueError(f"{field}: {twice[0]!r} is there twice; each may be there once")
    for base in grid.bases:
        if base not in bases():
            raise ValueError(str(unknown("base", base, bases())))


def _check_name(where: str, name: str) -> None:
    """Names of levels and arms are shown in tables and matched by patterns: any printable text of one line will do."""
    good = name and name.isprintable() and name == name.strip() and len(name) <= LONGEST_NAME and ".." not in name
    if not good or set(name) & set(NOT_IN_A_NAME):
        raise ValueError(
            f"{where}.{_quoted(name)}: a name has 1 to {LONGEST_NAME} printable characters, none of "
            f"{' '.join(NOT_IN_A_NAME)}, no .. and no space at its ends"
        )


def _quoted(name: str) -> str:
    """For a message of one line, whatever the name holds."""
    return ascii(name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}...")


def dotted(*parts: str | int) -> str:
    """A key of the file as one line, whatever its parts hold: axes.size.S, exclude[0].size."""
    out = ""
    for part in parts:
        if isinstance(part, int):
            out += f"[{part}]"
        else:
            plain = part and part.isprintable() and len(part) <= LONGEST_NAME
            out += f"{'.' if out else ''}{part if plain else _quoted(part)}"
    return out


def _check_axes_named(grid: GridFile) -> None:
    """Every axis and level that is referred to exists."""
    for number, pattern in enumerate(grid.exclude):
        _check_pattern(f"exclude[{number}]", pattern, grid)
    for number, levels in enumerate(grid.include):
        _check_pattern(f"include[{number}]", levels, grid)
    for axis, pattern in grid.when.items():
        _check_axis(dotted("when", axis), axis, grid)
        _check_pattern(f"when.{axis}", pattern, grid)
    if isinstance(grid.control, dict):
        _check_pattern("control", grid.control, grid)
    zipped: list[str] = []
    for number, group in enumerate(grid.zip):
        if len(group) < 2:
            raise ValueError(f"zip[{number}]: {list(group)}: a group has two axes or more")
        for axis in group:
            _check_axis("zip", axis, grid)
            if axis in zipped:
                raise ValueError(f"zip: axis {axis!r} is there twice; each may be there once")
            if axis in grid.when:
                raise ValueError(f"zip: axis {axis!r} has a condition in `when`; an axis has one or the other")
            zipped.append(axis)
        lengths = {axis: len(grid.axes[axis]) for axis in group}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"zip: axes that go in step need as many levels each, not {_listed(lengths)}")


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _check_axis(where: str, axis: str, grid: GridFile) -> None:
    if axis not in grid.axes:
        raise ValueError(str(unknown(f"{where}: axis", axis, grid.axes)))


def _check_pattern(where: str, pattern: Mapping[str, str | tuple[str, ...]], grid: GridFile) -> None:
    if not pattern:
        raise ValueError(f"{where}: is empty; needs axis = level")
    for axis, levels in pattern.items():
        _check_axis(where, axis, grid)
        if not levels:
            raise ValueError(f"{where}.{axis}: names no level; valid: {', '.join(grid.axes[axis])}")
        for level in (levels,) if isinstance(levels, str) else levels:
            if level not in grid.axes[axis]:
                raise ValueError(str(unknown(f"{where}.{axis}: level", level, grid.axes[axis])))


def _check_conditions(grid: GridFile) -> None:
    """Conditions lead from axis to axis and never back."""
    done: set[str] = set()

    def visit(axis: str, path: tuple[str, ...]) -> None:
        if axis in path:
            circle = " -> ".join([*path[path.index(axis) :], axis])
            raise ValueError(f"when.{axis}: {circle} is a circle; an axis may depend on axes that do not depend on it")
        if axis not in done:
            for other in grid.when.get(axis, {}):
                visit(other, (*path, axis))
            done.add(axis)

    for axis in grid.when:
        visit(axis, ())


ALLOWED = {
    "string_type": "a string",
    "string_too_short": "a string that is not empty",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "{ge} or more",
    "dict_type": "a table",
    "model_type": "a table",
    "tuple_type": "a list",
    "too_short": "a list of {min_length} or more",
    "literal_error": "{expected}",
}


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


def _describe(error: ValidationError, tree: Any, at: str = "") -> str:
    """What is wrong first, as `key = what is there: allowed: what is`; `tree`, which lies at key `at`, is what was
    validated."""
    errors = error.errors()
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
    if first["type"] == "extra_forbidden":
        fields = GridFile.model_fields if error.title == "GridFile" else Resources.model_fields
        return str(unknown(f"{at}: key" if at else "key", str(first["loc"][-1]), fields))
    if first["type"] == "missing":
        return f"{dotted(*first['loc'])}: is missing; a grid needs {', '.join(_required())}, above its first [table]"
    if first["type"] == "value_error":
        return first["msg"].removeprefix("Value error, ")
    found = [_key(e["loc"], tree) for e in errors]
    deepest = max((key for key in found if key[: len(found[0])] == found[0]), key=len)
    alternatives = [e for e, key in zip(errors, found, strict=True) if key == deepest]
    allowed = ", or ".join(dict.fromkeys(map(_allowed, alternatives)))
    return f"{dotted(*filter(None, [at]), *deepest)} = {_shown(alternatives[0]['input'])}: allowed: {allowed}"


def _key(loc: Iterable[str | int], tree: Any) -> tuple[str | int, ...]:
    """The key in the file: without the names that pydantic gives to the members of a union, which are not in `tree`."""
    key: list[str | int] = []
    for part in loc:
        if part in tree if isinstance(tree, dict) else isinstance(tree, list) and isinstance(part, int):
            key.append(part)
            tree = tree[part]
    return tuple(key)


def _allowed(error: ErrorDetails) -> str:
    known = ALLOWED.get(error["type"])
    return known.format(**error.get("ctx", {})) if known else error["msg"]


def _required() -> list[str]:
    return [name for name, field in GridFile.model_fields.items() if field.is_required()]


def _shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= LONGEST_NAME else f"{text[:LONGEST_NAME]}..."
