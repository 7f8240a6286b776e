"""Data that other installed packages ship: their files are read without importing them, which takes seconds."""

from importlib.util import find_spec
from pathlib import Path

from diffussm.errors import UserError


def package_folder(package: str, project: str, data_sets: str) -> Path:
    """Return the folder of `package`; raise UserError if `project`, from which `data_sets` are read, is missing."""
    spec = find_spec(package)
    if spec is None or not spec.origin:
        raise UserError(f"data.name: {data_sets} read from {project}; install it")
    return Path(spec.origin).parent
