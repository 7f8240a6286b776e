"""Checks of a grid file beyond the types of its fields; a UserError names the key and what is allowed."""

import re
from collections import Counter
from collections.abc import Mapping

from ablations.grid.schema import GridFile
from diffussm.config import bases
from diffussm.config.schema_errors import MAX_NAME_LENGTH, dotted, quoted
from diffussm.errors import UserError, unknown

AXIS_NAME = r"[A-Za-z][A-Za-z0-9_-]*"
FORBIDDEN_IN_NAMES = "\"'`\\|"
MAX_AXES = 100
LARGEST_MAX_RUNS = 1_000_000


def check(grid: GridFile) -> None:
    """Run all checks; raise UserError at the first that fails."""
    _check_texts(grid)
    _check_numbers(grid)
    _check_names(grid)
    _check_references(grid)
    _check_conditions(grid)
    _check_control(grid)
    _check_overrides(grid)


def _check_texts(grid: GridFile) -> None:
    for field in ("claim", "source", "expected", "cost", "command"):
        if not getattr(grid, field).strip():
            raise UserError(f"{field}: is blank; must be a text that is not blank")


def _check_numbers(grid: GridFile) -> None:
    """Raise UserError for numbers so large that listing the runs would take too long."""
    if grid.max_runs > LARGEST_MAX_RUNS:
        raise UserError(f"max_runs = {grid.max_runs:,}: allowed: up to {LARGEST_MAX_RUNS:,}")
    if isinstance(grid.seeds, int) and grid.seeds > grid.max_runs:
        raise UserError(f"seeds = {grid.seeds:,}: allowed: up to max_runs = {grid.max_runs:,}, or a higher max_runs")
    if len(grid.axes) > MAX_AXES:
        raise UserError(f"axes: {len(grid.axes):,} axes; allowed: up to {MAX_AXES}")


def _check_names(grid: GridFile) -> None:
    if not grid.axes and not grid.arms:
        raise UserError("axes, arms: a grid needs either or both, and this one has neither")
    for axis, levels in grid.axes.items():
        if not re.fullmatch(AXIS_NAME, axis) or axis == "arm" or len(axis) > MAX_NAME_LENGTH:
            raise UserError(
                f"axes.{quoted(axis)}: an axis name is a letter followed by letters, digits, _ or -, at most "
                f"{MAX_NAME_LENGTH} characters long, and not 'arm'"
            )
        if not levels:
            raise UserError(f"axes.{axis}: has no levels; needs at least one table of overrides")
        for level in levels:
            _check_name(f"axes.{axis}", level)
    for arm in grid.arms:
        _check_name("arms", arm)
    for field, values in (("base", grid.bases), ("seeds", grid.seed_list), ("matched", grid.matched)):
        if repeated := [value for value, count in Counter(values).items() if count > 1]:
            raise UserError(f"{field}: {repeated[0]!r} appears twice; each may appear once")
    for base in grid.bases:
        if base not in bases():
            raise unknown("base", base, bases())


def _check_name(where: str, name: str) -> None:
    """Raise UserError unless the name of a level or arm is one line of printable text: tables show it, patterns match
    it."""
    good = name and name.isprintable() and name == name.strip() and len(name) <= MAX_NAME_LENGTH and ".." not in name
    if not good or set(name) & set(FORBIDDEN_IN_NAMES):
        raise UserError(
            f"{where}.{quoted(name)}: a name has 1 to {MAX_NAME_LENGTH} printable characters, none of "
            f"{' '.join(FORBIDDEN_IN_NAMES)}, no .. and no space at either end"
        )


def _check_references(grid: GridFile) -> None:
    """Raise UserError if the file refers to an axis or level that does not exist."""
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
            raise UserError(f"zip[{number}]: {list(group)}: a group needs two or more axes")
        for axis in group:
            _check_axis("zip", axis, grid)
            if axis in zipped:
                raise UserError(f"zip: axis {axis!r} appears twice; each may appear once")
            if axis in grid.when:
                raise UserError(f"zip: axis {axis!r} has a condition in `when`; an axis may have one or the other")
            zipped.append(axis)
        lengths = {axis: len(grid.axes[axis]) for axis in group}
        if len(set(lengths.values())) > 1:
            raise UserError(f"zip: zipped axes need equal numbers of levels, not {_listed(lengths)}")


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _check_axis(where: str, axis: str, grid: GridFile) -> None:
    if axis not in grid.axes:
        raise unknown(f"{where}: axis", axis, grid.axes)


def _check_pattern(where: str, pattern: Mapping[str, str | tuple[str, ...]], grid: GridFile) -> None:
    if not pattern:
        raise UserError(f"{where}: is empty; needs axis = level")
    for axis, levels in pattern.items():
        _check_axis(where, axis, grid)
        if not levels:
            raise UserError(f"{where}.{axis}: names no level; valid: {', '.join(grid.axes[axis])}")
        for level in (levels,) if isinstance(levels, str) else levels:
            if level not in grid.axes[axis]:
                raise unknown(f"{where}.{axis}: level", level, grid.axes[axis])


def _check_conditions(grid: GridFile) -> None:
    """Raise UserError if the conditions form a cycle."""
    done: set[str] = set()

    def visit(axis: str, path: tuple[str, ...]) -> None:
        if axis in path:
            cycle = " -> ".join([*path[path.index(axis) :], axis])
            raise UserError(f"when.{axis}: {cycle} is a cycle; an axis may depend on axes that do not depend on it")
        if axis not in done:
            for other in grid.when.get(axis, {}):
                visit(other, (*path, axis))
            done.add(axis)

    for axis in grid.when:
        visit(axis, ())


def _check_control(grid: GridFile) -> None:
    if grid.combine == "one-at-a-time" and not grid.axes:
        raise UserError("combine: one-at-a-time needs axes, and there are none")
    if grid.combine == "one-at-a-time" and not isinstance(grid.control, dict):
        raise UserError("control: one-at-a-time needs a table of axis = level to start from")
    if grid.budget == "macs" and grid.control is None:
        raise UserError('control: budget = "macs" needs an arm to match, by its name or its levels')


def _check_overrides(grid: GridFile) -> None:
    """Raise UserError if a level or an arm sets a key that the config does not have: parsing the overrides does."""
    _ = grid.parsed_axes, grid.parsed_arms
