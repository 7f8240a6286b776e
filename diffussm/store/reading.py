"""Reading of the JSON files that are stored beside runs: one model each, and one error for every kind of damage."""

import errno
import os
import stat
from pathlib import Path
from typing import ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from diffussm.errors import UserError

LONGEST_VALUE = 60  # of a value that a message quotes
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
        raise damaged(path, model, describe(error)) from None


def damaged(path: Path, model: type[BaseModel], what: str) -> UserError:
    """Return the error of a file that does not hold what the model says."""
    repair = model.repair if issubclass(model, StoredModel) else ""
    return UserError("; ".join(filter(None, [f"{path}: is damaged: {what}", repair])))


def describe(error: ValidationError) -> str:
    """Return the first mistake of a file's content, with the field and the value."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    match first["type"]:
        case "json_invalid":
            return "not valid JSON"
        case "missing":
            return f"{where} is missing"
        case "extra_forbidden":
            return f"{where}: unknown field, perhaps of a later version of this package"
    message = first["msg"].removeprefix("Value error, ")
    return f"{where} = {_shown(first['input'])}: {message}" if where else message


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


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."
