"""The fields of a grid file, and the overrides of its levels parsed into dotted keys."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from diffussm.config import Section, config_keys, split_key
from diffussm.config.schema_errors import describe
from diffussm.errors import UserError

SECTIONS = {key.split(".")[0] for key in config_keys() if "." in key}  # of the config

Overrides = dict[str, Any]  # of config keys; in a file dotted or as nested tables, with `resources` among them
LevelChoice = dict[str, str]  # axis -> level
Pattern = dict[str, str | tuple[str, ...]]  # axis -> the level, or any of the levels

Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Text = Annotated[str, Field(min_length=1)]


class Resources(Section):
    """What a run needs of a machine beyond the executor's default. It does not affect results."""

    cpus: Positive | None = None
    gpus: Positive | None = None
    memory_gb: Annotated[float, Field(gt=0)] | None = None
    hours: Annotated[float, Field(gt=0)] | None = None  # for schedulers; a local pool has no time limit

    def slots(self, threads: int) -> int:
        """Return the number of slots of a local pool that a run takes; each has `threads` threads, and a GPU if there
        are any."""
        return max(self.gpus or 1, -(-(self.cpus or 1) // threads))


@dataclass(frozen=True)
class Setting:
    """What a level of an axis or an explicit arm sets."""

    overrides: Overrides  # by dotted config keys
    resources: Resources


class GridFile(Section):
    """A grid: axes of named levels, or named arms, or both; on one base or several."""

    claim: Text = Field(description="what the grid tests, in a sentence")
    source: Text = Field(description="where the claim comes from")
    expected: Text = Field(description="the expected result, stated before the grid is run")
    cost: Text = Field(description="the measured cost of running the grid")
    command: Text = Field(description="the command that runs the grid")
    base: str | Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        description="the recipe that the levels vary, or several"
    )
    seeds: Positive | Annotated[tuple[Count, ...], Field(min_length=1)] = Field(
        description="the number of seeds, counted from 0, or a list of seeds"
    )
    matched: tuple[Literal["parameters", "macs"], ...] = Field(
        (), description="quantities that are equal across arms (checked at launch)"
    )
    axes: dict[str, dict[str, Overrides]] = Field(
        default_factory=dict,
        description="each axis a table of named levels, each level a table of overrides (and resources)",
    )
    combine: Literal["product", "one-at-a-time"] = Field(
        "product",
        description="product: every combination; one-at-a-time: the control, and the control with one axis moved",
    )
    zip: tuple[tuple[str, ...], ...] = Field((), description="groups of axes that move together")
    when: dict[str, Pattern] = Field(
        default_factory=dict,
        description="axis = { other axis = level or levels }: where the axis applies; elsewhere it is omitted",
    )
    include: tuple[LevelChoice, ...] = Field((), description="combinations of levels to add")
    exclude: tuple[Pattern, ...] = Field(
        (), description="combinations of levels to remove; a list of levels stands for any of them"
    )
    arms: dict[str, Overrides] = Field(
        default_factory=dict, description="named arms, each a table of overrides (and resources)"
    )
    control: str | LevelChoice | None = Field(
        None, description="the arm to start from (one-at-a-time) or to match (budget): its name, or axis = level"
    )
    budget: Literal["steps", "macs"] = Field(
        "steps", description="what is equal in the training of every arm: steps, or total training MACs"
    )
    max_runs: Positive = Field(20_000, description="the largest number of runs to plan")

    @property
    def bases(self) -> tuple[str, ...]:
        return (self.base,) if isinstance(self.base, str) else self.base

    @cached_property
    def parsed_axes(self) -> dict[str, dict[str, Setting]]:
        """Axis -> level -> its setting. Raises UserError for a key that the config does not have."""
        return {
            axis: {level: _parse_level(overrides, f"axes.{axis}.{level}") for level, overrides in levels.items()}
            for axis, levels in self.axes.items()
        }

    @cached_property
    def parsed_arms(self) -> dict[str, Setting]:
        """Arm -> its setting. Raises UserError for a key that the config does not have."""
        return {arm: _parse_level(overrides, f"arms.{arm}") for arm, overrides in self.arms.items()}

    @property
    def seed_list(self) -> tuple[int, ...]:
        return tuple(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds


def _parse_level(overrides: Mapping[str, Any], where: str) -> Setting:
    try:
        rest = dict(overrides)
        resources = _resources(rest.pop("resources")) if "resources" in rest else Resources()
        flat: Overrides = {}
        for key, value in _leaves(rest, ""):
            if key in flat:
                raise UserError(f"{key}: appears twice, as a dotted key and in a table; each key may appear once")
            flat[key] = value
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    return Setting(flat, resources)


def _resources(value: Any) -> Resources:
    try:
        return Resources.model_validate_json(json.dumps(value))
    except ValidationError as error:
        raise UserError(describe(error, Resources, value, "resources")) from None


def _leaves(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and (value or key in SECTIONS):  # an empty table is not the value of a field
            yield from _leaves(value, f"{key}.")
        else:
            split_key(key)
            yield key, value
