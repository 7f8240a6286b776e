"""From a grid file to runs: names, levels and seeds become configs. Pure: reads TOML, writes nothing.

A grid has `axes` (each axis a table of named levels, of which every combination is an arm), or `arms` (each arm a table
of its own). Levels and arms hold overrides on a base, as dotted keys or nested tables.
"""

import itertools
import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from diffussm.config import Config, Section, request, resolve, run_id, split_key
from diffussm.errors import UserError, unknown

GRIDS = Path(__file__).parent / "grids"

Overrides = dict[str, Any]


class GridFile(Section):
    """What a grid file may hold."""

    claim: str
    source: str
    expected: str
    cost: str
    command: str
    base: str
    seeds: Annotated[int, Field(ge=1)]
    matched: tuple[Literal["parameters", "macs"], ...] = ()  # what is equal across arms
    axes: dict[str, dict[str, Overrides]] = Field(default_factory=dict)
    arms: dict[str, Overrides] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _axes_or_arms(self) -> Self:
        if bool(self.axes) == bool(self.arms):
            raise ValueError("a grid has either axes or arms")
        for axis, levels in self.axes.items():
            if not levels:
                raise ValueError(f"axes.{axis}: has no levels")
        return self


@dataclass(frozen=True)
class Arm:
    name: str
    levels: dict[str, str]  # axis -> level; of explicit arms {"arm": name}
    overrides: Overrides  # dotted key -> value


@dataclass(frozen=True)
class Run:
    arm: Arm
    config: Config

    @property
    def run_id(self) -> str:
        return run_id(self.config)


def grids() -> list[str]:
    return sorted(path.stem for path in GRIDS.glob("*.toml"))


def load(name: str) -> GridFile:
    """The grid `grids/<name>.toml`, or the file `name` if it ends in .toml; UserError naming file and key for whatever
    is wrong in it."""
    path = Path(name) if name.endswith(".toml") else GRIDS / f"{name}.toml"
    if not path.is_file():
        raise unknown("grid", name, [*grids(), "path/to/grid.toml"])
    try:
        return GridFile.model_validate_json(json.dumps(tomllib.loads(path.read_text())))
    except (tomllib.TOMLDecodeError, TypeError) as error:
        raise UserError(f"{path.name}: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise unknown(f"{path.name}: key", where, GridFile.model_fields) from None
        raise UserError(f"{path.name}: {where or 'grid'}: {first['msg'].removeprefix('Value error, ')}") from None


def arms(grid: GridFile) -> list[Arm]:
    """All arms in file order; UserError where two levels of an arm set the same key."""
    if grid.arms:
        return [Arm(name, {"arm": name}, _flatten(overrides)) for name, overrides in grid.arms.items()]
    out = []
    for combination in itertools.product(*(levels.items() for levels in grid.axes.values())):
        levels = dict(zip(grid.axes, (name for name, _ in combination), strict=True))
        merged: Overrides = {}
        for (axis, level), (_, overrides) in zip(levels.items(), combination, strict=True):
            for key, value in _flatten(overrides).items():
                if key in merged:
                    raise UserError(f"axes.{axis}.{level}: {key} is set by another axis too")
                merged[key] = value
        out.append(Arm(", ".join(levels.values()), levels, merged))
    return out


def expand(grid: GridFile, base: str, seeds: int, settings: Mapping[str, Any]) -> list[Run]:
    """Every arm with seeds 0 .. seeds - 1 on base `base`, with `settings` (dotted keys) on all of them."""
    out = []
    for arm in arms(grid):
        for key in settings:
            if key in arm.overrides or key == "seed":
                owner = "--seeds" if key == "seed" else f"arm {arm.name!r}"
                raise UserError(f"--set {key}: {owner} sets it already")
        for seed in range(seeds):
            try:
                config = resolve(base, {**settings, **arm.overrides, "seed": seed})
            except UserError as error:
                raise UserError(f"arm {arm.name!r}: {error}") from None
            out.append(Run(arm, config))
    _refuse_twins(out)
    return out


def _refuse_twins(runs: list[Run]) -> None:
    """Two arms that are the same run and ask the same of it are one arm with two names."""
    seen: dict[tuple[str, str], str] = {}
    for run in runs:
        identity = (run.run_id, request(run.config).results)
        first = seen.setdefault(identity, run.arm.name)
        if first != run.arm.name:
            raise UserError(f"arms {first!r} and {run.arm.name!r} are the same run and ask the same of it")


def _flatten(overrides: Mapping[str, Any]) -> Overrides:
    return dict(_leaves(overrides, ""))


def _leaves(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{key}.")
        else:
            split_key(key)
            yield key, value
