"""The arms of a grid, from its axes and levels: product, zip, one at a time, conditions, include, exclude. Pure
functions."""

import math
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field

from ablations.grid.schema import GridFile, LevelChoice, Overrides, Pattern, Resources, Setting
from diffussm.config.schema_errors import dotted
from diffussm.errors import UserError

MAX_COMBINATIONS = 100_000  # before `exclude`, unless max_runs is larger


@dataclass(frozen=True)
class Arm:
    """What the runs of an arm have in common."""

    name: str
    levels: LevelChoice  # {"arm": name} for an explicit arm
    overrides: Overrides  # dotted key -> value
    resources: Resources = field(default_factory=Resources)


def arms(grid: GridFile, max_arms: int | None = None) -> list[Arm]:
    """Return all arms in file order, explicit ones last; raise UserError if two levels of an arm set the same key,
    if two arms have the same name, or if there are more than `max_arms`."""
    max_arms = max_arms or grid.max_runs
    out = []
    for levels in _combinations(grid, max_arms):
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


def find_control(grid: GridFile, all_arms: list[Arm]) -> Arm:
    """Return the arm that `control` names; raise UserError if there is none."""
    wanted = _complete(grid, grid.control, "control") if isinstance(grid.control, dict) else grid.control
    for arm in all_arms:
        if wanted in (arm.name, arm.levels):
            return arm
    raise UserError(f"control: no arm is {grid.control!r}; valid: {', '.join(repr(arm.name) for arm in all_arms[:20])}")


def _arm(levels: LevelChoice, parsed: Mapping[str, Mapping[str, Setting]]) -> Arm:
    """Return the arm of a combination of levels."""
    merged: Overrides = {}
    needs: dict[str, object] = {}
    for axis, level in levels.items():
        own = parsed[axis][level]
        for into, add in ((merged, own.overrides), (needs, own.resources.model_dump(exclude_none=True))):
            for key, value in add.items():
                if key in into:
                    what = key if into is merged else f"resources.{key}"
                    raise UserError(f"axes.{axis}.{level}: {what} is set by another axis too; only one axis may set it")
                into[key] = value
    return Arm(", ".join(levels.values()), levels, merged, Resources.model_validate(needs))


def _combinations(grid: GridFile, max_arms: int) -> list[LevelChoice]:
    """Return the combinations of levels that form arms."""
    if not grid.axes:
        return []
    source = _one_at_a_time(grid) if grid.combine == "one-at-a-time" else _product(grid)
    minimum = _min_combinations(grid)
    _check_size(grid, minimum, 0 if grid.exclude else minimum, max_arms)
    patterns = [_as_sets(pattern) for pattern in grid.exclude]
    used: set[int] = set()
    kept: list[LevelChoice] = []
    for number, levels in enumerate(source):
        hits = [i for i, pattern in enumerate(patterns) if _matches(levels, pattern)]
        used.update(hits)
        if not hits:
            kept.append(levels)
        _check_size(grid, number + 1, len(kept), max_arms)
    for i, pattern in enumerate(grid.exclude):
        if i not in used:
            raise UserError(f"exclude[{i}]: {pattern} matches no combination of levels; it must match at least one")
    for i, extra in enumerate(grid.include):
        completed = _complete(grid, extra, f"include[{i}]")
        if completed in kept:
            raise UserError(f"include[{i}]: {', '.join(completed.values())} is already an arm; it must be a new one")
        kept.append(completed)
    if not kept:
        raise UserError("exclude: removes every arm; at least one must remain")
    for axis in grid.when:
        if not any(axis in levels for levels in kept):
            raise UserError(f"when.{axis}: applies to no arm; its condition must match at least one")
    for axis, named in grid.axes.items():
        used_levels = {levels.get(axis) for levels in kept}
        for level in named:
            if level not in used_levels:
                raise UserError(f"axes.{axis}.{level}: is in no arm; remove it, or change exclude or when")
    return kept


def _min_combinations(grid: GridFile) -> int:
    """Return a lower bound of the number of combinations: that of the axes without conditions."""
    if grid.combine == "one-at-a-time":
        return 1
    return math.prod(len(grid.axes[group[0]]) for group in _groups(grid) if group[0] not in grid.when)


def _check_size(grid: GridFile, combinations: int, kept: int, max_arms: int) -> None:
    if kept > max_arms:
        sizes = ", ".join(f"{axis} {len(levels):,}" for axis, levels in grid.axes.items())
        raise UserError(
            f"max_runs: axes of {sizes} levels make more than {max_arms:,} arms, which with this many seeds exceeds "
            f"max_runs = {grid.max_runs:,}; remove some levels, or raise it"
        )
    allowed = max(MAX_COMBINATIONS, grid.max_runs)
    if combinations > allowed:
        raise UserError(
            f"axes: more than {allowed:,} combinations before `exclude`; allowed: that many, or max_runs if larger"
        )


def _product(grid: GridFile) -> Iterator[LevelChoice]:
    """Yield every combination in file order; an axis with a condition appears only where the condition holds."""
    groups = _groups(grid)
    positions = {axis: number for number, axis in enumerate(grid.axes)}

    def branch(remaining: list[tuple[str, ...]], chosen: LevelChoice) -> Iterator[LevelChoice]:
        if not remaining:
            yield {axis: chosen[axis] for axis in sorted(chosen, key=positions.__getitem__)}
            return
        group, *rest = remaining
        if not _applies(grid, group[0], chosen):
            yield from branch(rest, chosen)
            return
        for levels in zip(*(grid.axes[axis] for axis in group), strict=True):
            yield from branch(rest, {**chosen, **dict(zip(group, levels, strict=True))})

    yield from branch(groups, {})


def _one_at_a_time(grid: GridFile) -> Iterator[LevelChoice]:
    """Yield the control, and the control with one axis (or zipped group) moved to each of its other levels."""
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
    """Return the groups of axes that move together; an axis comes after those that its condition refers to."""
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


def _complete(grid: GridFile, levels: Mapping[str, str], where: str) -> LevelChoice:
    """Return the levels in file order, without those of axes whose condition does not hold; raise UserError if one is
    missing."""
    out: LevelChoice = {}
    for axis in (axis for group in _groups(grid) for axis in group):
        if not _applies(grid, axis, out):
            continue
        if axis not in levels:
            raise UserError(f"{where}: names no level of axis {axis!r}; valid: {', '.join(grid.axes[axis])}")
        out[axis] = levels[axis]
    return {axis: out[axis] for axis in grid.axes if axis in out}


def _applies(grid: GridFile, axis: str, chosen: Mapping[str, str]) -> bool:
    """Return whether the axis's condition holds; `chosen` has the levels of the axes that it refers to, as far as they
    apply."""
    return _matches(chosen, _as_sets(grid.when.get(axis, {})))


def _as_sets(pattern: Pattern) -> Mapping[str, Set[str]]:
    return {axis: {of} if isinstance(of, str) else set(of) for axis, of in pattern.items()}


def _matches(levels: Mapping[str, str], pattern: Mapping[str, Set[str]]) -> bool:
    return all(levels.get(axis) in of for axis, of in pattern.items())
