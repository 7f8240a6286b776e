"""Reading of the JSON files that are stored beside runs: one model each, and one error for every kind of damage."""

import errno
import os
import stat
from pathlib import Path
from typing import ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from diffussm.errors import UserError
from diffussm.schema_errors import dotted, first_problem

OF_THE_FILE = (errno.EACCES, errno.EPERM, errno.EISDIR, errno.ELOOP, errno.ENOTDIR, errno.ENXIO)  # not of the disk
Model = TypeVar("Model", bound=BaseModel)


class StoredModel(BaseModel):
    """Base of what is stored in files; a file's own model says in `repair` what to do where it is damaged.

    A model that decides what is done refuses a field that it does not know, by name. One that only describes keeps it
    (`extra="allow"`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    repair: ClassVar[str] = ""


def read_model(path: Path, model: type[Model]) -> Model:
    """Return the content of a JSON file, validated.

    Raises FileNotFoundError where there is no file, and UserError naming it where it is damaged: not a regular file,
    not readable, not JSON, of another shape, with a missing or an unknown field.
    """
    content = _read_bytes(path, model)
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        raise damaged(path, model, describe_damage(error)) from None


def damaged(path: Path, model: type[BaseModel], what: str) -> UserError:
    """Return the error of a file that does not hold what the model says."""
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
    try:
        with open(path, "rb", buffering=0, opener=_open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise damaged(path, model, "not a regular file")
            return file.read()
    except FileNotFoundError:
        if path.is_symlink():
            raise damaged(path, model, "a link to a file that does not exist") from None
        raise
    except OSError as error:
        if error.errno not in OF_THE_FILE:
            raise
        raise damaged(path, model, f"cannot be read: {error.strerror}") from None


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting for a writer, as a named pipe would have it."""
    return os.open(path, flags | os.O_NONBLOCK)
