"""Error messages about a grid file, in one line: the key, its value, what is allowed."""

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from diffussm.errors import unknown

MAX_NAME_LENGTH = 80

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
    """The name for a message of one line, whatever characters it contains."""
    return ascii(name if len(name) <= MAX_NAME_LENGTH else f"{name[:MAX_NAME_LENGTH]}...")


def dotted(*parts: str | int) -> str:
    """A key of the file in one line, whatever characters its parts contain: axes.size.S, exclude[0].size."""
    out = ""
    for part in parts:
        if isinstance(part, int):
            out += f"[{part}]"
        else:
            plain = part and part.isprintable() and len(part) <= MAX_NAME_LENGTH
            out += f"{'.' if out else ''}{part if plain else quoted(part)}"
    return out


def describe(error: ValidationError, model: type[BaseModel], tree: Any, at: str = "") -> str:
    """The message for the first problem, as `key = value: allowed: ...`. `tree` is what was validated as `model`; it
    lies at the key `at` of the file."""
    errors = error.errors()
    problem = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
    if problem["type"] == "extra_forbidden":
        return str(unknown(f"{at}: key" if at else "key", str(problem["loc"][-1]), model.model_fields))
    if problem["type"] == "missing":
        required = ", ".join(_required(model))
        return f"{dotted(*problem['loc'])}: is missing; a grid needs {required}, above its first [table]"
    found = [_key(e["loc"], tree) for e in errors]
    deepest = max((key for key in found if key[: len(found[0])] == found[0]), key=len)
    alternatives = [e for e, key in zip(errors, found, strict=True) if key == deepest]
    allowed = ", or ".join(dict.fromkeys(map(_allowed, alternatives)))
    return f"{dotted(*filter(None, [at]), *deepest)} = {shown(alternatives[0]['input'])}: allowed: {allowed}"


def _key(loc: Iterable[str | int], tree: Any) -> tuple[str | int, ...]:
    """The key in the file: `loc` without the names of union members, which pydantic adds and `tree` does not have."""
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
    """The value for a message of one line, shortened."""
    text = ascii(value)
    return text if len(text) <= MAX_NAME_LENGTH else f"{text[:MAX_NAME_LENGTH]}..."


def _required(model: type[BaseModel]) -> list[str]:
    return [name for name, field in model.model_fields.items() if field.is_required()]
