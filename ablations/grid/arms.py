"""From axes and their levels to arms: product, zip, one at a time, conditions, include, exclude. Pure."""

import math
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field

from ablations.grid.messages import dotted
from ablations.grid.schema import GridFile, Level, Levels, Overrides, Pattern, Resources
from diffussm.errors import UserError

MOST_COMBINATIONS = 100_000  # looked at, before `exclude`, where max_runs is less


@dataclass(frozen=True)
class Arm:
    name: str
    levels: Levels  # of explicit arms {"arm": name}
    overrides: Overrides  # dotted key -> value
    resources: Resources = field(default_factory=Resources)


def arms(grid: GridFile, most: int | None = None) -> list[Arm]:
    """All arms in file order, explicit ones last; UserError where two levels of an arm set the same key, where two arms
    have one name, or where there are more than `most`."""
    most = most or grid.max_runs
    out = []
    for levels in _combinations(grid, most):
        out.append(_arm(levels, grid.parsed_axes))
    for name, explicit in grid.parsed_arms.items():
        out.append(Arm(name, {"arm": name}, explicit.overrides, explicit.resources))
    names: dict[str, Arm] = {}
    for arm in out:
        if arm.name in names:
            where = dotted("arms", arm.name) if "arm" in arm.levels else "axes"
            raise UserError(f"{where}: two arms would be named {arm.name!r}; allowed: names that differ")
        names[arm.name] = arm
    return out


def find_control(grid: GridFile, made: list[Arm]) -> Arm:
    """The arm that `control` names; UserError if there is none."""
    meant = _complete(grid, grid.control, "control") if isinstance(grid.control, dict) else grid.control
    for arm in made:
        if meant in (arm.name, arm.levels):
            return arm
    raise UserError(f"control: no arm is {grid.control!r}; valid: {', '.join(repr(arm.name) for arm in made[:20])}")


def _arm(levels: Levels, parsed: Mapping[str, Mapping[str, Level]]) -> Arm:
    merged: Overrides = {}
    needs: dict[str, object] = {}
    for axis, level in levels.items():
        own = parsed[axis][level]
        for into, add in ((merged, own.overrides), (needs, own.resources.model_dump(exclude_none=True))):
            for key, value in add.items():
                if key in into:
                    what = key if into is merged else f"resources.{key}"
                    raise UserError(f"axes.{axis}.{level}: {what} is set by another axis too; one axis may set it")
                into[key] = value
    return Arm(", ".join(levels.values()), levels, merged, Resources.model_validate(needs))


def _combinations(grid: GridFile, most: int) -> list[Levels]:
    if not grid.axes:
        return []
    source = _one_at_a_time(grid) if grid.combine == "one-at-a-time" else _product(grid)
    least = _least(grid)
    _refuse_many(grid, least, 0 if grid.exclude else least, most)
    patterns = [_sets(pattern) for pattern in grid.exclude]
    used: set[int] = set()
    kept: list[Levels] = []
    for number, levels in enumerate(source):
        hits = [i for i, pattern in enumerate(patterns) if _matches(levels, pattern)]
        used.update(hits)
        if not hits:
            kept.append(levels)
        _refuse_many(grid, number + 1, len(kept), most)
    for i, pattern in enumerate(grid.exclude):
        if i not in used:
            raise UserError(f"exclude[{i}]: {pattern} matches no combination of levels; it must match some")
    for i, extra in enumerate(grid.include):
        completed = _complete(grid, extra, f"include[{i}]")
        if completed in kept:
            raise UserError(f"include[{i}]: {', '.join(completed.values())} is an arm already; allowed: others")
        kept.append(completed)
    if not kept:
        raise UserError("exclude: leaves no arm; it must leave some")
    for axis in grid.when:
        if not any(axis in levels for levels in kept):
            raise UserError(f"when.{axis}: holds in no arm; it must hold in some")
    for axis, named in grid.axes.items():
        used_levels = {levels.get(axis) for levels in kept}
        for level in named:
            if level not in used_levels:
                raise UserError(f"axes.{axis}.{level}: is in no arm; it must be in some, or leave the file")
    return kept


def _least(grid: GridFile) -> int:
    """How many combinations there are at least: those of the axes without conditions."""
    if grid.combine == "one-at-a-time":
        return 1
    return math.prod(len(grid.axes[group[0]]) for group in _groups(grid) if group[0] not in grid.when)


def _refuse_many(grid: GridFile, combinations: int, kept: int, most: int) -> None:
    if kept > most:
        sizes = ", ".join(f"{axis} {len(levels):,}" for axis, levels in grid.axes.items())
        raise UserError(
            f"max_runs: axes of {sizes} levels make more than {most:,} arms; max_runs = {grid.max_runs:,} allows "
            "no more with as many seeds: leave some out, or raise it"
        )
    allowed = max(MOST_COMBINATIONS, grid.max_runs)
    if combinations > allowed:
        raise UserError(f"axes: more than {allowed:,} combinations before `exclude`; allowed: so many, or max_runs")


def _product(grid: GridFile) -> Iterator[Levels]:
    """Every combination in file order; an axis under a condition only where that holds."""
    groups = _groups(grid)
    places = {axis: number for number, axis in enumerate(grid.axes)}

    def branch(left: list[tuple[str, ...]], chosen: Levels) -> Iterator[Levels]:
        if not left:
            yield {axis: chosen[axis] for axis in sorted(chosen, key=places.__getitem__)}
            return
        group, *rest = left
        if not _applies(grid, group[0], chosen):
            yield from branch(rest, chosen)
            return
        for levels in zip(*(grid.axes[axis] for axis in group), strict=True):
            yield from branch(rest, {**chosen, **dict(zip(group, levels, strict=True))})

    yield from branch(groups, {})


def _one_at_a_time(grid: GridFile) -> Iterator[Levels]:
    """The control, and then one axis (or zipped group) moved to each of its other levels."""
    assert isinstance(grid.control, dict)
    control = _complete(grid, grid.control, "control")
    yield control
    for group in _groups(grid):
        if group[0] not in control:
            continue
        for levels in zip(*(grid.axes[axis] for axis in group), strict=True):
            moved = {**grid.control, **dict(zip(group, levels, strict=True))}
            if (completed := _complete(grid, moved, "control")) != control:
                yield completed


def _groups(grid: GridFile) -> list[tuple[str, ...]]:
    """Axes that move together, those that conditions ask about before those that have the conditions."""
    zipped = {axis: group for group in grid.zip for axis in group}
    out: dict[tuple[str, ...], None] = {}

    def add(axis: str) -> None:
        group = zipped.get(axis, (axis,))
        if group in out:
            return
        for other in grid.when.get(axis, {}):
            add(other)
        out[group] = None

    for axis in grid.axes:
        add(axis)
    return list(out)


def _complete(grid: GridFile, levels: Mapping[str, str], where: str) -> Levels:
    """The levels in file order, without those of axes whose condition does not hold; UserError for one that lacks."""
    out: Levels = {}
    for axis in (axis for group in _groups(grid) for axis in group):
        if not _applies(grid, axis, out):
            continue
        if axis not in levels:
            raise UserError(f"{where}: names no level of axis {axis!r}; valid: {', '.join(grid.axes[axis])}")
        out[axis] = levels[axis]
    return {axis: out[axis] for axis in grid.axes if axis in out}


def _applies(grid: GridFile, axis: str, chosen: Mapping[str, str]) -> bool:
    """Whether the axis's condition holds; `chosen` has the levels of those axes that it asks about and that apply."""
    return _matches(chosen, _sets(grid.when.get(axis, {})))


def _sets(pattern: Pattern) -> Mapping[str, Set[str]]:
    return {axis: {of} if isinstance(of, str) else set(of) for axis, of in pattern.items()}


def _matches(levels: Mapping[str, str], pattern: Mapping[str, Set[str]]) -> bool:
    return all(levels.get(axis) in of for axis, of in pattern.items())
