"""The fields of a config that name files or folders."""

from collections.abc import Callable
from pathlib import Path
from typing import Any


def is_npz_name(reference: str) -> bool:
    """Return whether a reference is named as a file, by the suffix .npz in any case, and not as a data set. The file
    need not exist."""
    return reference.lower().endswith(".npz")


def is_extractor_file(extractor: str) -> bool:
    """Return whether an extractor is named as a file, by its suffix. The file need not exist."""
    return extractor.lower().endswith(".safetensors")


_IS_PATH: dict[str, Callable[[str], bool]] = {
    "data.root": bool,
    "evaluation.reference": is_npz_name,
    "evaluation.extractor": is_extractor_file,
    "evaluation.extractor_weights": bool,
    "evaluation.vae": bool,
}
PATHS = tuple(_IS_PATH)


def absolute(key: str, value: Any, folder: Path | None = None) -> Any:
    """Return the value of a config key, made absolute if it is a path; `folder`, by default the working directory, is
    what it is relative to."""
    if key not in _IS_PATH or not isinstance(value, str) or not _IS_PATH[key](value):
        return value
    return str((folder or Path()).absolute() / Path(value).expanduser())
