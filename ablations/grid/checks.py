"""What must hold in a grid file beyond the types of its fields; a UserError names the key and what is allowed."""

import re
from collections import Counter
from collections.abc import Mapping

from ablations.grid.messages import LONGEST_NAME, dotted, quoted
from ablations.grid.schema import GridFile
from diffussm.config import bases
from diffussm.errors import UserError, unknown

AXIS_NAME = r"[A-Za-z][A-Za-z0-9_-]*"
NOT_IN_A_NAME = "\"'`\\|"
MOST_AXES = 100
MOST_RUNS = 1_000_000  # that max_runs may allow


def check(grid: GridFile) -> None:
    _check_texts(grid)
    _check_numbers(grid)
    _check_names(grid)
    _check_axes_named(grid)
    _check_conditions(grid)
    _check_control(grid)
    _check_overrides(grid)


def _check_texts(grid: GridFile) -> None:
    for field in ("claim", "source", "expected", "cost", "command"):
        if not getattr(grid, field).strip():
            raise UserError(f"{field}: is blank; allowed: words")


def _check_numbers(grid: GridFile) -> None:
    """Nothing so large that to list it would take longer than to refuse it."""
    if grid.max_runs > MOST_RUNS:
        raise UserError(f"max_runs = {grid.max_runs:,}: allowed: up to {MOST_RUNS:,}")
    if isinstance(grid.seeds, int) and grid.seeds > grid.max_runs:
        raise UserError(f"seeds = {grid.seeds:,}: allowed: up to max_runs = {grid.max_runs:,}, or a higher max_runs")
    if len(grid.axes) > MOST_AXES:
        raise UserError(f"axes: there are {len(grid.axes):,}; allowed: up to {MOST_AXES}")


def _check_names(grid: GridFile) -> None:
    if not grid.axes and not grid.arms:
        raise UserError("axes, arms: a grid needs either or both, and has neither")
    for axis, levels in grid.axes.items():
        if not re.fullmatch(AXIS_NAME, axis) or axis == "arm" or len(axis) > LONGEST_NAME:
            raise UserError(
                f"axes.{quoted(axis)}: an axis is named by a letter and letters, digits, _ and -, {LONGEST_NAME} at "
                "most, and not 'arm'"
            )
        if not levels:
            raise UserError(f"axes.{axis}: has no levels; needs one or more tables of overrides")
        for level in levels:
            _check_name(f"axes.{axis}", level)
    for arm in grid.arms:
        _check_name("arms", arm)
    for field, values in (("base", grid.bases), ("seeds", grid.seed_list), ("matched", grid.matched)):
        if twice := [value for value, count in Counter(values).items() if count > 1]:
            raise UserError(f"{field}: {twice[0]!r} is there twice; each may be there once")
    for base in grid.bases:
        if base not in bases():
            raise unknown("base", base, bases())


def _check_name(where: str, name: str) -> None:
    """Names of levels and arms are shown in tables and matched by patterns: any printable text of one line will do."""
    good = name and name.isprintable() and name == name.strip() and len(name) <= LONGEST_NAME and ".." not in name
    if not good or set(name) & set(NOT_IN_A_NAME):
        raise UserError(
            f"{where}.{quoted(name)}: a name has 1 to {LONGEST_NAME} printable characters, none of "
            f"{' '.join(NOT_IN_A_NAME)}, no .. and no space at its ends"
        )


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
            raise UserError(f"zip[{number}]: {list(group)}: a group has two axes or more")
        for axis in group:
            _check_axis("zip", axis, grid)
            if axis in zipped:
                raise UserError(f"zip: axis {axis!r} is there twice; each may be there once")
            if axis in grid.when:
                raise UserError(f"zip: axis {axis!r} has a condition in `when`; an axis has one or the other")
            zipped.append(axis)
        lengths = {axis: len(grid.axes[axis]) for axis in group}
        if len(set(lengths.values())) > 1:
            raise UserError(f"zip: axes that go in step need as many levels each, not {_listed(lengths)}")


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
    """Conditions lead from axis to axis and never back."""
    done: set[str] = set()

    def visit(axis: str, path: tuple[str, ...]) -> None:
        if axis in path:
            circle = " -> ".join([*path[path.index(axis) :], axis])
            raise UserError(f"when.{axis}: {circle} is a circle; an axis may depend on axes that do not depend on it")
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
    """Every key that a level or an arm sets is one of the config: parsing them, once for all, finds out."""
    _ = grid.parsed_axes, grid.parsed_arms
