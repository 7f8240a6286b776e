"""The runs of a grid: arms and seeds as configs on a base. Pure functions, independent of run folders."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

from ablations.grid.arms import Arm, arms, find_control
from ablations.grid.reading import NotOfGrid
from ablations.grid.schema import GridFile
from diffussm.config import Config, Request, base_name, naming_inherited, run_id
from diffussm.cost.closed_form import forward_macs
from diffussm.data.lookup.facts import check_fit
from diffussm.data.lookup.resolution import resolve_with_data
from diffussm.errors import UserError
from diffussm.metrics.key import evaluation_key
from diffussm.metrics.requested_files import as_requested

SCALED = ("training.steps", "training.milestones")  # what budget = "macs" sets


@dataclass(frozen=True)
class Run:
    """A run of an arm with a seed."""

    arm: Arm
    config: Config

    @cached_property
    def run_id(self) -> str:
        return run_id(self.config)


def expand(grid: GridFile, base: str, seeds: Sequence[int], settings: Mapping[str, Any]) -> list[Run]:
    """Return every arm with every seed on base `base`; `settings` (dotted keys) are set in all of them."""
    _check_not_set_twice(grid, settings)
    all_arms = arms(grid, max(1, grid.max_runs // len(seeds)))
    if grid.control is not None:
        find_control(grid, all_arms)
    if len(all_arms) * len(seeds) > grid.max_runs:
        raise UserError(
            f"max_runs: {len(all_arms) * len(seeds):,} runs, more than {grid.max_runs:,}; raise it in the grid file if "
            "intended"
        )
    _check_levels_differ(grid, base, all_arms, settings)
    configs = {arm.name: _config(grid, base, arm, settings) for arm in all_arms}
    _check_arms_differ(base, all_arms, configs)
    if grid.budget == "macs":
        configs = _equal_macs(grid, all_arms, configs)
    return [Run(arm, configs[arm.name].model_copy(update={"seed": seed})) for arm in all_arms for seed in seeds]


def _config(grid: GridFile, base: str, arm: Arm, settings: Mapping[str, Any]) -> Config:
    try:
        return _resolve_and_check(base, {**settings, **arm.overrides})
    except UserError as error:
        message = str(error)
        if settings and _has_error(message, base, settings) and not _has_error(message, base, {}):
            option = "--data" if settings.keys() == {"data.root"} else "--set"
            raise NotOfGrid(f"{option}: {message}") from None
        if _has_error(message, base, settings):
            raise NotOfGrid(message if message.startswith(base) else f"base {base}: {message}") from None
        raise UserError(f"{_source_of_error(grid, base, arm, settings, message)}: {message}") from None


def _resolve_and_check(base: str, overrides: Mapping[str, Any]) -> Config:
    """Return the config. Raise UserError if its model, data and evaluation do not fit together, as far as is known
    without loading them."""
    with naming_inherited(base, overrides):
        config = as_requested(resolve_with_data(base, overrides))
        check_fit(config)
        evaluation_key(config)
        return config


def _has_error(message: str, base: str, overrides: Mapping[str, Any]) -> bool:
    """Return whether the base with these overrides has the same error."""
    try:
        _resolve_and_check(base, overrides)
    except UserError as error:
        return str(error) == message
    return False


def _source_of_error(grid: GridFile, base: str, arm: Arm, settings: Mapping[str, Any], message: str) -> str:
    """Return the key of an arm's error: the level that causes the same error by itself, or else the arm."""
    for axis, levels in grid.parsed_axes.items():
        level = arm.levels.get(axis)
        if level and _has_error(message, base, {**settings, **levels[level].overrides}):
            return f"axes.{axis}.{level}"
    return f"arms.{arm.name}" if "arm" in arm.levels else f"axes: arm {arm.name!r}"


def _check_not_set_twice(grid: GridFile, settings: Mapping[str, Any]) -> None:
    for where, key in _keys_set(grid):
        if key == "seed":
            raise UserError(f"{where}: seed is set by `seeds`; a level may set any other key")
        if key in settings:
            raise UserError(f"--set {key}: {where} sets it already; --set may set keys that no level sets")
        if key in SCALED and grid.budget == "macs":
            raise UserError(f'{where}: {key} is set by budget = "macs"; a level may set any other key')
    if "seed" in settings:
        raise UserError("--set seed: use --seeds; --set may set any other key")


def _keys_set(grid: GridFile) -> Iterator[tuple[str, str]]:
    for axis, levels in grid.parsed_axes.items():
        for level, parsed in levels.items():
            yield from ((f"axes.{axis}.{level}", key) for key in parsed.overrides)
    for arm, parsed in grid.parsed_arms.items():
        yield from ((f"arms.{arm}", key) for key in parsed.overrides)


def _check_levels_differ(grid: GridFile, base: str, all_arms: list[Arm], settings: Mapping[str, Any]) -> None:
    """Raise UserError if two levels of an axis give the same config.

    The other axes have the levels of the first arm that has this axis.
    """
    for axis, levels in grid.parsed_axes.items():
        example = next((arm for arm in all_arms if axis in arm.levels), None)
        own = {level: parsed.overrides for level, parsed in levels.items()}
        others = (
            {}
            if example is None
            else {k: v for k, v in example.overrides.items() if k not in own[example.levels[axis]]}
        )
        seen: dict[Any, str] = {}
        for level, overrides in own.items():
            try:
                identity = _identity(as_requested(resolve_with_data(base, {**settings, **others, **overrides})))
            except UserError:
                continue  # does not fit together with the other levels
            if identity in seen:
                raise UserError(
                    f"axes.{axis}: levels {seen[identity]!r} and {level!r} are the same on base {base_name(base)!r}; "
                    "each level must change the run or its evaluation"
                )
            seen[identity] = level


def _check_arms_differ(base: str, all_arms: list[Arm], configs: Mapping[str, Config]) -> None:
    """Raise UserError if two arms are the same run with the same request."""
    seen: dict[tuple[str, str], Arm] = {}
    for arm in all_arms:
        earlier = seen.setdefault(_identity(configs[arm.name]), arm)
        if earlier is not arm:
            part = "axes" if "arm" not in arm.levels else f"arms.{arm.name}"
            raise UserError(
                f"{part}: arms {earlier.name!r} and {arm.name!r} are the same run with the same request on base "
                f"{base_name(base)!r}; arms must differ"
            )


def _identity(config: Config) -> tuple[str, str]:
    return run_id(config), Request.from_config(config).results_digest


def _equal_macs(grid: GridFile, all_arms: list[Arm], configs: Mapping[str, Config]) -> dict[str, Config]:
    """Return the configs with steps such that 3 x forward MACs x batch x steps equals that of the control; milestones
    scale with the steps."""
    control = configs[find_control(grid, all_arms).name].training
    per_step = {name: _macs_per_step(name, config) for name, config in configs.items()}
    budget = per_step[find_control(grid, all_arms).name] * control.steps
    out = {}
    for name, config in configs.items():
        scale = Fraction(budget, per_step[name] * control.steps)
        milestones = [max(1, round(step * scale)) for step in sorted({*control.milestones, control.steps})]
        if len(set(milestones)) < len(milestones):
            steps = ", ".join(map(str, milestones))
            problem = f"training.milestones: at equal MACs, those of arm {name!r} coincide (steps {steps})"
            raise UserError(f"{problem}; choose fewer or later milestones")
        scaled = {"steps": max(1, round(control.steps * scale)), "milestones": tuple(milestones)}
        training = config.training.model_copy(update=scaled)
        out[name] = config.model_copy(update={"training": training})
    return out


def _macs_per_step(name: str, config: Config) -> int:
    macs = forward_macs(config).training_step(config.training.batch)
    if macs is None:
        raise UserError(f'budget = "macs": the MACs of arm {name!r} are unknown; its mixer must define `macs`')
    return macs
