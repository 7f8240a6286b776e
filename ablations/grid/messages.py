"""Mistakes in a grid file, told in one line: key, what is there, what is allowed."""

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from diffussm.errors import unknown

LONGEST_NAME = 80

ALLOWED = {
    "string_type": "a string",
    "string_too_short": "a string that is not empty",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "{ge} or more",
    "dict_type": "a table",
    "model_type": "a table",
    "tuple_type": "a list",
    "too_short": "a list of {min_length} or more",
    "literal_error": "{expected}",
}


def quoted(name: str) -> str:
    """For a message of one line, whatever the name holds."""
    return ascii(name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}...")


def dotted(*parts: str | int) -> str:
    """A key of the file as one line, whatever its parts hold: axes.size.S, exclude[0].size."""
    out = ""
    for part in parts:
        if isinstance(part, int):
            out += f"[{part}]"
        else:
            plain = part and part.isprintable() and len(part) <= LONGEST_NAME
            out += f"{'.' if out else ''}{part if plain else quoted(part)}"
    return out


def describe(error: ValidationError, model: type[BaseModel], tree: Any, at: str = "") -> str:
    """What is wrong first, as `key = what is there: allowed: what is`; `tree`, which lies at key `at`, is what was
    validated as `model`."""
    errors = error.errors()
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
    if first["type"] == "extra_forbidden":
        return str(unknown(f"{at}: key" if at else "key", str(first["loc"][-1]), model.model_fields))
    if first["type"] == "missing":
        return (
            f"{dotted(*first['loc'])}: is missing; a grid needs {', '.join(_required(model))}, above its first [table]"
        )
    found = [_key(e["loc"], tree) for e in errors]
    deepest = max((key for key in found if key[: len(found[0])] == found[0]), key=len)
    alternatives = [e for e, key in zip(errors, found, strict=True) if key == deepest]
    allowed = ", or ".join(dict.fromkeys(map(_allowed, alternatives)))
    return f"{dotted(*filter(None, [at]), *deepest)} = {shown(alternatives[0]['input'])}: allowed: {allowed}"


def _key(loc: Iterable[str | int], tree: Any) -> tuple[str | int, ...]:
    """The key in the file: without the names that pydantic gives to the members of a union, which are not in `tree`."""
    key: list[str | int] = []
    for part in loc:
        if part in tree if isinstance(tree, dict) else isinstance(tree, list) and isinstance(part, int):
            key.append(part)
            tree = tree[part]
    return tuple(key)


def _allowed(error: ErrorDetails) -> str:
    known = ALLOWED.get(error["type"])
    return known.format(**error.get("ctx", {})) if known else error["msg"]


def shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= LONGEST_NAME else f"{text[:LONGEST_NAME]}..."


def _required(model: type[BaseModel]) -> list[str]:
    return [name for name, field in model.model_fields.items() if field.is_required()]
