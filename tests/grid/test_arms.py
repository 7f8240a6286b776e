"""The arms of a grid: product, zip, one at a time, conditions, include, exclude, resources, equal MACs."""

import itertools
import json
import tomllib
from fractions import Fraction
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablations.grid import json_schema as grid_schema
from ablations.grid.arms import arms
from ablations.grid.reading import grids, load
from ablations.grid.runs import Run, expand
from ablations.grid.schema import GridFile
from diffussm.config import Request
from diffussm.cost.closed_form import forward_macs
from diffussm.errors import UserError
from tests.grid.test_grid import HEADER

ROOT = Path(__file__).parents[2]
LR = {"slow": {"training.lr": 1e-3}, "fast": {"training.lr": 1e-2}}
RATIO = {"M1": {"model.hourglass": 1}, "M2": {"model.hourglass": 2}, "M4": {"model.hourglass": 4}}
MIXER = {"s4d": {"model.mixer": "s4d"}, "attention": {"model.mixer": "attention"}}
HEADS = {"1 head": {"model.heads": 1}, "2 heads": {"model.heads": 2}}


def grid(**parts: Any) -> GridFile:
    return GridFile.model_validate_json(json.dumps(HEADER | parts))


def names(**parts: Any) -> list[str]:
    return [arm.name for arm in arms(grid(**parts))]


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_a_product_has_every_combination_once_in_file_order(sizes: list[int]) -> None:
    keys = ("training.lr", "training.ema", "training.weight_decay", "training.ssm_lr_scale")
    axes = {
        f"axis-{a}": {f"{a}{level}": {key: 0.1 + level / 10} for level in range(size)}
        for a, (size, key) in enumerate(zip(sizes, keys, strict=False))
    }
    expected = [", ".join(combination) for combination in itertools.product(*axes.values())]
    assert names(axes=axes) == expected


def test_zipped_axes_move_together() -> None:
    three = {"a": {"training.ema": 0.9}, "b": {"training.ema": 0.95}, "c": {"training.ema": 0.99}}
    assert names(axes={"ratio": RATIO, "ema": three}, zip=[["ratio", "ema"]]) == ["M1, a", "M2, b", "M4, c"]
    with_lr = names(axes={"ratio": RATIO, "lr": LR, "ema": three}, zip=[["ratio", "ema"]])
    assert with_lr == ["M1, slow, a", "M1, fast, a", "M2, slow, b", "M2, fast, b", "M4, slow, c", "M4, fast, c"]


def test_one_at_a_time_moves_one_axis_from_the_control() -> None:
    made = names(axes={"ratio": RATIO, "lr": LR}, combine="one-at-a-time", control={"ratio": "M2", "lr": "slow"})
    assert made == ["M2, slow", "M1, slow", "M4, slow", "M2, fast"]


def test_an_axis_applies_only_where_its_condition_holds() -> None:
    made = arms(grid(axes={"heads": HEADS, "mixer": MIXER}, when={"heads": {"mixer": "attention"}}))
    assert [arm.name for arm in made] == ["s4d", "1 head, attention", "2 heads, attention"]
    assert made[0].levels == {"mixer": "s4d"}
    assert "model.heads" not in made[0].overrides


def test_conditions_in_a_chain() -> None:
    """An axis does not apply if its condition refers to an axis that does not apply."""
    kind = {"ssm": {"model.kind": "diffussm"}, "dit": {"model.kind": "dit"}}
    made = names(
        axes={"kind": kind, "mixer": MIXER, "heads": HEADS},
        when={"heads": {"mixer": ["attention"]}, "mixer": {"kind": "ssm"}},
    )
    assert made == ["ssm, s4d", "ssm, attention, 1 head", "ssm, attention, 2 heads", "dit"]


def test_one_at_a_time_under_conditions() -> None:
    parts = {"axes": {"mixer": MIXER, "heads": HEADS}, "when": {"heads": {"mixer": "attention"}}}
    control = {"mixer": "s4d", "heads": "2 heads"}
    assert names(**parts, combine="one-at-a-time", control=control | {"mixer": "attention"}) == [
        "attention, 2 heads",
        "s4d",
        "attention, 1 head",
    ]


def test_exclude_and_include() -> None:
    kept = names(axes={"ratio": RATIO, "lr": LR}, exclude=[{"ratio": ["M1", "M4"], "lr": "fast"}])
    assert kept == ["M1, slow", "M2, slow", "M2, fast", "M4, slow"]
    more = names(axes={"ratio": RATIO, "lr": LR}, exclude=[{"lr": "fast"}], include=[{"lr": "fast", "ratio": "M4"}])
    assert more == ["M1, slow", "M2, slow", "M4, slow", "M4, fast"]


def test_named_arms_beside_axes() -> None:
    made = arms(grid(axes={"ratio": RATIO}, arms={"DiT": {"model.kind": "dit", "model.patch": 2}}))
    assert [arm.name for arm in made] == ["M1", "M2", "M4", "DiT"]
    assert made[3].levels == {"arm": "DiT"}


def test_resources_of_levels_are_merged_and_change_no_run() -> None:
    big = {**RATIO["M1"], "resources": {"gpus": 2, "memory_gb": 20.0}}
    slow = {**LR["slow"], "resources": {"hours": 12.0}}
    axes = {"ratio": {"M1": big, "M2": RATIO["M2"]}, "lr": {"slow": slow, "fast": LR["fast"]}}
    made = expand(grid(axes=axes), "digits", [0], {})
    needs = {run.arm.name: run.arm.resources.model_dump(exclude_none=True) for run in made}
    assert needs["M1, slow"] == {"gpus": 2, "memory_gb": 20.0, "hours": 12.0}
    assert needs["M2, fast"] == {}
    plain = expand(grid(axes={"ratio": {"M1": RATIO["M1"], "M2": RATIO["M2"]}, "lr": LR}), "digits", [0], {})
    assert [run.run_id for run in made] == [run.run_id for run in plain]


def test_seeds_as_a_list() -> None:
    content = grid(axes={"lr": LR}, seeds=[0, 7])
    assert [run.config.seed for run in expand(content, "digits", content.seed_list, {})] == [0, 7, 0, 7]


def per_step(run: Run) -> int:
    macs = forward_macs(run.config).total
    assert macs is not None
    return 3 * macs * run.config.training.batch


def test_equal_macs() -> None:
    """The training of every arm costs as much as the control's, to half a step; milestones lie at equal fractions."""
    axes = {"ratio": RATIO, "batch": {"32": {"training.batch": 32}, "48": {"training.batch": 48}}}
    content = grid(axes=axes, budget="macs", control={"ratio": "M2", "batch": "32"})
    runs = expand(content, "digits", [0], {"training.steps": 3000})
    control = next(run for run in runs if run.arm.name == "M2, 32")
    request = Request.from_config(control.config)
    assert request.steps == 3000
    assert request.milestones == (300, 600, 1200, 1800, 2400, 3000)
    budget = per_step(control) * 3000
    for run in runs:
        own = Request.from_config(run.config)
        assert abs(per_step(run) * own.steps - budget) <= per_step(run) / 2
        for mine, of_control in zip(own.milestones, request.milestones, strict=True):
            assert abs(mine - Fraction(of_control * own.steps, 3000)) <= 1
    by_name = grid(arms=RATIO, budget="macs", control="M2")
    assert [run.config.training.steps for run in expand(by_name, "digits", [0], {})] == [
        round(2400 * per_step(runs[2]) / per_step(run)) for run in (runs[0], runs[2], runs[4])
    ]


def test_equal_macs_with_milestones_that_would_coincide() -> None:
    tiny = {"a": {"model.width": 8}, "b": {"model.width": 256, "model.depth": 4}}
    content = grid(axes={"size": tiny}, budget="macs", control={"size": "a"})
    with pytest.raises(UserError, match="choose fewer or later milestones"):
        expand(content, "digits", [0], {"training.steps": 8, "training.milestones": [2, 3, 4]})


def test_the_schema_for_editors_is_current() -> None:
    """`make schema` writes it."""
    assert (ROOT / "ablations" / "grid.schema.json").read_text() == grid_schema.text()


@pytest.mark.parametrize("name", grids())
def test_every_shipped_grid_fits_the_schema(name: str) -> None:
    path = ROOT / "ablations" / "grids" / f"{name}.toml"
    jsonschema.validate(tomllib.loads(path.read_text()), grid_schema.schema())
    assert path.read_text().startswith("#:schema ../grid.schema.json\n")
    assert load(name)


@pytest.mark.parametrize(
    "wrong",
    [
        {"axes": {"a b": LR}},
        {"axes": {"lr": {"x": {"training.rate": 1}}}},
        {"axes": {"lr": {"x": {"training": {"rate": 1}}}}},
        {"axes": {"lr": {"x": {"model.width": "wide"}}}},
        {"axes": {"lr": {"x": {"resources": {"gpu": 1}}}}},
        {"arms": {"x": {"model": {"mixer": "conv"}}}},
        {"base": "digit"},
        {"base": []},
        {"seeds": 0},
        {"budget": "flops"},
        {"colour": "red"},
    ],
)
def test_the_schema_refuses(wrong: dict[str, Any]) -> None:
    right = HEADER | {"axes": {"lr": LR}}
    jsonschema.validate(right, grid_schema.schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(json.loads(json.dumps(right | wrong)), grid_schema.schema())


def test_overrides_are_parsed_once() -> None:
    """Overrides are parsed into dotted keys and resources, whichever way they are written."""
    made = grid(axes={"size": {"wide": {"model": {"width": 64}, "training.lr": 0.1, "resources": {"cpus": 2}}}})
    level = made.parsed_axes["size"]["wide"]
    assert level.overrides == {"model.width": 64, "training.lr": 0.1}
    assert level.resources.cpus == 2
    assert made.parsed_axes is made.parsed_axes
    assert made == made.model_copy()
