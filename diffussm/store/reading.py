"""Reading of the JSON files that are stored beside runs: one model each, and one error for every kind of damage."""

import errno
import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from diffussm.config.schema_errors import dotted, first_problem
from diffussm.errors import UserError

FILE_ERRNOS = (
    errno.EACCES,
    errno.EPERM,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENOTDIR,
    errno.ENXIO,
)  # of the file itself, not of the disk
Model = TypeVar("Model", bound=BaseModel)


class StoredModel(BaseModel):
    """Base of what is stored in files; a file's own model says in `repair` what to do if it is damaged.

    A model that determines what is done rejects an unknown field by name. One that only describes keeps it
    (`extra="allow"`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    repair: ClassVar[str] = ""


def read_model(path: Path, model: type[Model]) -> Model:
    """Return the content of a JSON file, validated.

    Raises FileNotFoundError if there is no file, and a UserError that names it if it is damaged: not a regular file,
    not readable, not JSON, of another shape, with a missing or an unknown field.
    """
    content = _read_bytes(path, model)
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        raise damaged(path, model, describe_damage(error)) from None


def read_json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects in the complete lines of a file; none of a file that is missing or not readable."""
    with suppress(FileNotFoundError, UserError), open_regular(path, UserError) as file:
        for line in file.read().splitlines(keepends=True):
            with suppress(ValueError, RecursionError):
                if line.endswith(b"\n") and isinstance(row := json.loads(line), dict):
                    yield row


def names_in(folder: Path) -> list[str]:
    """Return the names of what is in the folder, none if it does not exist; raise UserError if it is no folder, or not
    readable."""
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []
    except OSError as problem:
        if problem.errno not in FILE_ERRNOS:
            raise
        raise UserError(f"{folder}: cannot be read as a folder: {problem.strerror}; rename what is there") from None


def damaged(path: Path, model: type[BaseModel], what: str) -> UserError:
    """Return the error of a file whose content does not fit the model."""
    repair = model.repair if issubclass(model, StoredModel) else ""
    return UserError("; ".join(filter(None, [f"{path}: is damaged: {what}", repair])))


def describe_damage(error: ValidationError) -> str:
    """Return the first mistake of a file's content, with the field and the value."""
    problem = first_problem(error)
    if problem.type == "json_invalid":
        return "not valid JSON"
    if problem.is_unknown:
        return f"{dotted(*problem.key)}: unknown field, perhaps of a later version of this package"
    return problem.at()


def _read_bytes(path: Path, model: type[BaseModel]) -> bytes:
    with open_regular(path, lambda what: damaged(path, model, what)) as file:
        return file.read()


@contextmanager
def open_regular(path: Path, error: Callable[[str], UserError]) -> Iterator[FileIO]:
    """Yield the file, opened for reading; raise FileNotFoundError if there is none, and the `error` of a description
    if it is not a regular file or not readable."""
    try:
        with open(path, "rb", buffering=0, opener=_open_nonblocking) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise error("not a regular file")
            yield file
    except FileNotFoundError:
        if path.is_symlink():
            raise error("a link to a file that does not exist") from None
        raise
    except OSError as problem:
        if problem.errno not in FILE_ERRNOS:
            raise
        raise error(f"cannot be read: {problem.strerror}") from None


def _open_nonblocking(path: str, flags: int) -> int:
    """Open without waiting for a writer, as opening a named pipe would."""
    return os.open(path, flags | os.O_NONBLOCK)
