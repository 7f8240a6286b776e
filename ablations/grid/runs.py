"""From a grid to runs: arms and seeds become configs on a base. Pure: writes nothing, knows no folders."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

from ablations.grid.arms import Arm, arms, find_control
from ablations.grid.schema import GridFile
from diffussm.config import Config, request, resolve, run_id
from diffussm.cost.closed_form import forward_macs
from diffussm.data.catalogue import check_fit
from diffussm.errors import UserError
from diffussm.metrics.key import evaluation_key

SCALED = ("training.steps", "training.milestones")  # what budget = "macs" sets


@dataclass(frozen=True)
class Run:
    arm: Arm
    config: Config

    @cached_property
    def run_id(self) -> str:
        return run_id(self.config)


def expand(grid: GridFile, base: str, seeds: Sequence[int], settings: Mapping[str, Any]) -> list[Run]:
    """Every arm with every seed on base `base`, with `settings` (dotted keys) on all of them."""
    _refuse_set_twice(grid, settings)
    made = arms(grid, max(1, grid.max_runs // len(seeds)))
    if grid.control is not None:
        find_control(grid, made)
    if len(made) * len(seeds) > grid.max_runs:
        raise UserError(f"max_runs: {len(made) * len(seeds):,} runs, allowed: {grid.max_runs:,}; raise it if meant")
    _refuse_like_levels(grid, base, made, settings)
    configs = {arm.name: _config(grid, base, arm, settings) for arm in made}
    _refuse_twins(base, made, configs)
    if grid.budget == "macs":
        configs = _equal_macs(grid, made, configs)
    return [Run(arm, configs[arm.name].model_copy(update={"seed": seed})) for arm in made for seed in seeds]


def _config(grid: GridFile, base: str, arm: Arm, settings: Mapping[str, Any]) -> Config:
    try:
        return _fitting(base, {**settings, **arm.overrides})
    except UserError as error:
        raise UserError(f"{_at_fault(grid, base, arm, settings, str(error))}: {error}") from None


def _fitting(base: str, overrides: Mapping[str, Any]) -> Config:
    """The config, whose model, data and evaluation go together as far as is known without loading any."""
    config = resolve(base, overrides)
    check_fit(config)
    evaluation_key(config)
    return config


def _at_fault(grid: GridFile, base: str, arm: Arm, settings: Mapping[str, Any], said: str) -> str:
    """Where an arm's mistake lies: in what all arms have, in the one level that makes it by itself, or in the arm."""
    by_itself: dict[str, Mapping[str, Any]] = {"--set": {}} if settings else {}
    for axis, levels in grid.parsed_axes.items():
        if axis in arm.levels:
            by_itself[f"axes.{axis}.{arm.levels[axis]}"] = levels[arm.levels[axis]].overrides
    for where, overrides in by_itself.items():
        try:
            _fitting(base, {**settings, **overrides})
        except UserError as error:
            if str(error) == said:
                return where
    return f"arms.{arm.name}" if "arm" in arm.levels else f"axes: arm {arm.name!r}"


def _refuse_set_twice(grid: GridFile, settings: Mapping[str, Any]) -> None:
    for where, key in _keys_set(grid):
        if key == "seed":
            raise UserError(f"{where}: seed is set by `seeds`; a level may set any other key")
        if key in settings:
            raise UserError(f"--set {key}: {where} sets it already; --set may set what no level does")
        if key in SCALED and grid.budget == "macs":
            raise UserError(f'{where}: {key} is set by budget = "macs"; a level may set any other key')
    if "seed" in settings:
        raise UserError("--set seed: --seeds sets it; --set may set any other key")


def _keys_set(grid: GridFile) -> Iterator[tuple[str, str]]:
    for axis, levels in grid.parsed_axes.items():
        for level, parsed in levels.items():
            yield from ((f"axes.{axis}.{level}", key) for key in parsed.overrides)
    for arm, parsed in grid.parsed_arms.items():
        yield from ((f"arms.{arm}", key) for key in parsed.overrides)


def _refuse_like_levels(grid: GridFile, base: str, made: list[Arm], settings: Mapping[str, Any]) -> None:
    """Two levels of an axis that give the same config, beside the other levels of the axis's first arm."""
    for axis, levels in grid.parsed_axes.items():
        first = next((arm for arm in made if axis in arm.levels), None)
        own = {level: parsed.overrides for level, parsed in levels.items()}
        beside = {} if first is None else {k: v for k, v in first.overrides.items() if k not in own[first.levels[axis]]}
        seen: dict[Any, str] = {}
        for level, overrides in own.items():
            try:
                identity = _identity(resolve(base, {**settings, **beside, **overrides}))
            except UserError:
                continue  # does not go with those others
            if identity in seen:
                raise UserError(
                    f"axes.{axis}: levels {seen[identity]!r} and {level!r} are the same on base {base!r}; "
                    "each level must change the run or what is asked of it"
                )
            seen[identity] = level


def _refuse_twins(base: str, made: list[Arm], configs: Mapping[str, Config]) -> None:
    """Two arms that are the same run and ask the same of it are one arm with two names."""
    seen: dict[tuple[str, str], Arm] = {}
    for arm in made:
        first = seen.setdefault(_identity(configs[arm.name]), arm)
        if first is not arm:
            part = "axes" if "arm" not in arm.levels else f"arms.{arm.name}"
            raise UserError(
                f"{part}: arms {first.name!r} and {arm.name!r} are the same run and ask the same of it on base "
                f"{base!r}; arms must differ"
            )


def _identity(config: Config) -> tuple[str, str]:
    return run_id(config), request(config).results


def _equal_macs(grid: GridFile, made: list[Arm], configs: Mapping[str, Config]) -> dict[str, Config]:
    """Steps such that 3 x forward MACs x batch x steps equals the control's; milestones scale with them."""
    control = configs[find_control(grid, made).name].training
    per_step = {name: _macs_per_step(name, config) for name, config in configs.items()}
    budget = per_step[find_control(grid, made).name] * control.steps
    out = {}
    for name, config in configs.items():
        scale = Fraction(budget, per_step[name] * control.steps)
        milestones = [max(1, round(step * scale)) for step in sorted({*control.milestones, control.steps})]
        if len(set(milestones)) < len(milestones):
            steps = f"training.milestones: at equal MACs those of arm {name!r} are steps {milestones}"
            raise UserError(f"{steps}; allowed: milestones that stay apart")
        scaled = {"steps": max(1, round(control.steps * scale)), "milestones": tuple(milestones)}
        training = config.training.model_copy(update=scaled)
        out[name] = config.model_copy(update={"training": training})
    return out


def _macs_per_step(name: str, config: Config) -> int:
    macs = forward_macs(config).training_step(config.training.batch)
    if macs is None:
        raise UserError(f'budget = "macs": the MACs of arm {name!r} are unknown; its mixer must state them')
    return macs
