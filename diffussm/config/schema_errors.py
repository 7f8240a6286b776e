"""What pydantic finds wrong with a tree of values, as one line: the key, its value, what is allowed."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from diffussm.errors import unknown

MAX_NAME_LENGTH = 80  # also of a value that a message quotes

_ALLOWED = {
    "string_type": "a string",
    "string_too_short": "a string that is not empty",
    "string_pattern_mismatch": "a string that matches {pattern}",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "{ge} or more",
    "less_than": "less than {lt}",
    "less_than_equal": "{le} or less",
    "multiple_of": "a multiple of {multiple_of}",
    "dict_type": "a table",
    "model_type": "a table",
    "tuple_type": "a list",
    "list_type": "a list",
    "too_short": "a list of {min_length} or more",
    "literal_error": "{expected}",
}


class Problem(NamedTuple):
    """The first thing that is wrong with a tree. `type` is pydantic's name of it."""

    type: str
    key: tuple[str | int, ...]
    message: str  # without the key

    @property
    def is_unknown(self) -> bool:
        return self.type == "extra_forbidden"

    @property
    def is_missing(self) -> bool:
        return self.type == "missing"

    def at(self, *above: str) -> str:
        """Return the key, below `above`, and the message."""
        where = dotted(*above, *self.key)
        return f"{where}{self.message}" if where else self.message.lstrip(" .:=")


def first_problem(error: ValidationError, tree: Any = None) -> Problem:
    """Return the first problem, a key that is unknown before all others; `tree` is what was validated, if it is at
    hand."""
    errors = error.errors()
    chosen = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
    if chosen["type"] == "extra_forbidden":
        return Problem(chosen["type"], chosen["loc"], ": unknown key")
    if chosen["type"] == "missing":
        return Problem(chosen["type"], chosen["loc"], ": is missing")
    keys = [e["loc"] if tree is None else _key(e["loc"], tree) for e in errors]
    key = max((key for key in keys if key[: len(keys[0])] == keys[0]), key=len)
    return Problem(chosen["type"], key, _message([e for e, at in zip(errors, keys, strict=True) if at == key]))


def describe(error: ValidationError, model: type[BaseModel], tree: Any, *above: str) -> str:
    """Return the first problem of a user's file. `tree`, validated as `model`, lies in it below the keys `above`."""
    problem = first_problem(error, tree)
    if problem.is_unknown:
        return str(unknown(": ".join([*above, "key"]), str(problem.key[-1]), model.model_fields))
    return problem.at(*above)


def dotted(*parts: str | int) -> str:
    """Return a key in one line, whatever characters its parts contain: axes.size.S, exclude[0].size."""
    out = ""
    for part in parts:
        if isinstance(part, int):
            out += f"[{part}]"
        else:
            plain = part and part.isprintable() and len(part) <= MAX_NAME_LENGTH
            out += f"{'.' if out else ''}{part if plain else quoted(part)}"
    return out


def quoted(name: str) -> str:
    """Return the name for a message of one line, whatever characters it contains."""
    return ascii(name if len(name) <= MAX_NAME_LENGTH else f"{name[:MAX_NAME_LENGTH]}...")


def shown(value: Any) -> str:
    """Return the value for a message of one line, shortened."""
    text = ascii(value)
    return text if len(text) <= MAX_NAME_LENGTH else f"{text[:MAX_NAME_LENGTH]}..."


def _key(loc: Iterable[str | int], tree: Any) -> tuple[str | int, ...]:
    """Return the key in the tree: `loc` without the names of union members, which pydantic adds and `tree` does not
    have."""
    key: list[str | int] = []
    for part in loc:
        if part in tree if isinstance(tree, dict) else isinstance(tree, list) and isinstance(part, int):
            key.append(part)
            tree = tree[part]
    return tuple(key)


def _message(alternatives: Sequence[ErrorDetails]) -> str:
    """Of the errors at one key, of which there are several where a union allows several types."""
    first = alternatives[0]
    says = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":  # between fields, the message names them
        return f".{says}" if isinstance(first["input"], dict) else f" = {shown(first['input'])}: {says}"
    if first["type"] not in _ALLOWED:
        return f" = {shown(first['input'])}: {says}"
    allowed = (_ALLOWED[e["type"]].format(**e.get("ctx", {})) for e in alternatives if e["type"] in _ALLOWED)
    return f" = {shown(first['input'])}: allowed: {', or '.join(dict.fromkeys(allowed))}"
