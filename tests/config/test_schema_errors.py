"""One line for whatever pydantic finds: the key, its value, what is allowed."""

import json
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from diffussm.config.schema_errors import describe, first_problem


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    low: int = 0
    high: int = 9

    @model_validator(mode="after")
    def _ordered(self) -> "Part":
        if self.low > self.high:
            raise ValueError("low: must not be above high")
        return self


class File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    name: Annotated[str, Field(min_length=1)]
    kind: Literal["a", "b"] = "a"
    size: Annotated[int, Field(ge=2, multiple_of=2)] = 2
    rate: Annotated[float, Field(gt=0, lt=1)] = 0.5
    seeds: int | tuple[int, ...] = 1
    on: bool = True
    part: Part = Part()
    tags: Annotated[tuple[str, ...], Field(min_length=1)] = ("x",)

    @field_validator("name")
    @classmethod
    def _no_dot(cls, name: str) -> str:
        if "." in name:
            raise ValueError("must have no dot")
        return name


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"name": 3}, "name = 3: allowed: a string"),
        ({"name": ""}, "name = '': allowed: a string that is not empty"),
        ({"name": "a.b"}, "name = 'a.b': must have no dot"),
        ({"name": "x\n" * 99, "kind": "c"}, "kind = 'c': allowed: 'a' or 'b'"),
        ({"size": 0}, "size = 0: allowed: 2 or more"),
        ({"size": 3}, "size = 3: allowed: a multiple of 2"),
        ({"size": 2.5}, "size = 2.5: allowed: a whole number"),
        ({"rate": 0}, "rate = 0: allowed: more than 0"),
        ({"rate": 1}, "rate = 1: allowed: less than 1.0"),
        ({"seeds": "3"}, "seeds = '3': allowed: a whole number, or a list"),
        ({"seeds": [1, "2"]}, "seeds[1] = '2': allowed: a whole number"),
        ({"on": 1}, "on = 1: allowed: true or false"),
        ({"part": 3}, "part = 3: allowed: a table"),
        ({"part": {"low": 10}}, "part.low: must not be above high"),
        ({"part": {"high": "9"}}, "part.high = '9': allowed: a whole number"),
        ({"tags": []}, "tags = []: allowed: a list of 1 or more"),
        ({"nam": "x", "size": 3}, "key: unknown name 'nam'; did you mean 'name'?"),
        ({"kind": "z" * 200}, f"kind = '{'z' * 79}...: allowed: 'a' or 'b'"),
    ],
)
def test_the_first_problem(change: dict[str, Any], text: str) -> None:
    tree = {"name": "n"} | change
    with pytest.raises(ValidationError) as caught:
        File.model_validate_json(json.dumps(tree))
    assert describe(caught.value, File, tree).startswith(text)


def test_what_is_missing() -> None:
    with pytest.raises(ValidationError) as caught:
        File.model_validate_json("{}")
    problem = first_problem(caught.value)
    assert problem.is_missing
    assert problem.at("files") == "files.name: is missing"


def test_a_whole_file_of_another_kind() -> None:
    with pytest.raises(ValidationError) as caught:
        File.model_validate_json("[1]")
    assert first_problem(caught.value).at() == "[1]: allowed: a table"
