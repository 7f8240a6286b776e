"""Every field of the config is described, and every place that shows the descriptions is up to date."""

import re

import pytest

from ablations.launch import LaunchParser
from diffussm.config import Config, config_keys
from diffussm.config.fields import DescribedField, fields, sections
from reports.docs import config as config_page


@pytest.mark.parametrize("field", fields(), ids=lambda field: field.key)
def test_every_field_is_described_in_one_line(field: DescribedField) -> None:
    assert field.description.strip() == field.description != ""
    assert "\n" not in field.description
    assert field.allowed


def test_fields_are_the_keys() -> None:
    assert [field.key for field in fields()] == config_keys()
    assert set(sections()) == {key.split(".")[0] for key in config_keys() if "." in key}
    assert all(sections().values())


@pytest.mark.parametrize(
    ("key", "allowed", "default"),
    [
        ("model.kind", "diffussm, dit", '"diffussm"'),
        ("model.width", "integer >= 4, multiple of 4", "64"),
        ("model.mixer", "s4d, attention, identity, package.module:Class", '"s4d"'),
        ("training.lr", "number > 0", "0.0001"),
        ("training.milestones", "list of: integer >= 1", "[]"),
        ("evaluation.clip", "true or false", "true"),
        ("seed", "integer >= 0, < 2^63", "0"),
    ],
)
def test_allowed_values_and_defaults(key: str, allowed: str, default: str) -> None:
    (field,) = [field for field in fields() if field.key == key]
    assert (field.allowed, field.default) == (allowed, default)


def test_the_page_is_the_generated_one() -> None:
    """Made by `make dictionary`."""
    assert config_page.PAGE.read_text() == config_page.page()


def test_help_lists_every_key_with_its_description() -> None:
    listed = dict(re.findall(r"^  (\S+) {2,}(\S.*)$", LaunchParser(prog="launch.py").format_help(), flags=re.M))
    assert "seed" not in listed  # it is set by --seeds
    for field in fields():
        if field.key != "seed":
            assert listed[field.key] == field.description


def test_json_schema_of_sections_has_their_descriptions() -> None:
    described = Config.model_json_schema()["$defs"]
    assert all(part["description"] for section in described.values() for part in section["properties"].values())
