"""Where the prepared data set of a config lies. No NumPy."""

import os
import shlex
from functools import lru_cache
from pathlib import Path

from diffussm.config import DataConfig
from diffussm.data.prepared.manifest import MANIFEST
from diffussm.errors import UserError
from diffussm.store.reading import FILE_ERRNOS

VARIABLE = "DIFFUSSM_DATA"
SHOWN = 3  # data sets that a message names
SOURCES = {  # what the prepared data sets of the shipped bases are made of
    "cifar10": "cifar-10-binary.tar.gz",
    "imagenet64": "ILSVRC/Data/CLS-LOC/train",
    "imagenet128": "ILSVRC/Data/CLS-LOC/train",
    "imagenet256-latents": "ILSVRC/Data/CLS-LOC/train",
    "imagenet512-latents": "ILSVRC/Data/CLS-LOC/train",
    "lsun-bedroom-latents": "bedroom_train_lmdb",
    "lsun-church-latents": "church_outdoor_train_lmdb",
}


def prepared_folder(data: DataConfig) -> Path | None:
    """Return the folder of the prepared data set: data.root or, if that does not hold one, $DIFFUSSM_DATA/<name>; None
    if neither does."""
    return next((folder for folder in _candidates(data) if _is_there(folder)), None)


def prepared_names() -> list[str]:
    """Return the names of the prepared data sets in $DIFFUSSM_DATA."""
    above = os.environ.get(VARIABLE)
    return sorted(path.parent.name for path in Path(above).expanduser().glob(f"*/{MANIFEST}")) if above else []


def missing_prepared(data: DataConfig, image_size: int | str) -> str:
    """Return, in one line, where the prepared data set was looked for, and what to do: say where it is, or make it."""
    candidates = _candidates(data)
    if not candidates:
        return (
            f"and neither data.root nor ${VARIABLE} says where it lies; make it with "
            f"`{_command(data, image_size, SOURCES.get(data.name, 'SOURCE'), 'DIR')}` and give --data DIR"
        )
    looked = f"and no {MANIFEST} in {' or '.join(map(str, candidates))}"
    if found := [folder for place in candidates for folder in _sets_in(place)]:
        options = " or ".join(f"--data {shlex.quote(str(folder))}" for folder in found[:SHOWN])
        return f"{looked}, but in a folder inside; give {options}"
    if data.root and candidates[0].is_dir() and os.listdir(candidates[0]):  # the images themselves
        return f"{looked}; make it with `{_command(data, image_size, str(candidates[0]), 'DIR')}` and give --data DIR"
    return (
        f"{looked}; if it was moved, change data.root, give --data DIR, or set ${VARIABLE} to the folder that holds it "
        f"as {data.name}; else make it with "
        f"`{_command(data, image_size, SOURCES.get(data.name, 'SOURCE'), str(candidates[0]))}`"
    )


def _command(data: DataConfig, image_size: int | str, source: str, target: str) -> str:
    """Return the command that prepares a source as the data set."""
    words = ["diffussm", "data", "prepare", source, target, "--image-size", str(data.decoded_size or image_size)]
    if data.decoded_size:
        words += ["--vae", "FOLDER", *["--flips"] * data.flip]
    return shlex.join(words)


def _sets_in(folder: Path) -> list[Path]:
    """Return the prepared data sets in the folder, by their names."""
    try:
        return sorted(path.parent for path in folder.glob(f"*/{MANIFEST}"))
    except (OSError, ValueError):
        return []


def _candidates(data: DataConfig) -> tuple[Path, ...]:
    return _absolute(data.root, data.name, os.environ.get(VARIABLE, ""), os.getcwd())


@lru_cache(maxsize=256)  # a plan asks for each of its arms
def _absolute(root: str, name: str, above: str, working_directory: str) -> tuple[Path, ...]:
    given = [Path(root).expanduser()] if root else []
    given += [Path(above).expanduser() / name] if above else []
    return tuple(working_directory / folder for folder in given)


def _is_there(folder: Path) -> bool:
    try:
        os.stat(f"{folder}/{MANIFEST}")
    except (FileNotFoundError, NotADirectoryError, ValueError):  # or no name that a file can have
        return False
    except OSError as error:
        if error.errno not in FILE_ERRNOS:
            raise
        raise UserError(f"{folder}: cannot be read as a prepared data set: {error.strerror}") from None
    return True
