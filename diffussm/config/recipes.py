"""Bases: whole recipes, those of this package (`diffussm/bases/<name>.toml`) and those in TOML files of the user's.

A recipe may extend another: `extends = "cifar10"`, or the path of a file, relative to its own. One that names other
data does not inherit what is theirs: image size, channels and classes, transform, and what is said of latents.
"""

import os
import re
import stat
import tomllib
from collections.abc import Collection, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from diffussm.config.paths import PATHS, absolute
from diffussm.config.schema import LATENT_FIELDS, Config
from diffussm.errors import UserError, unknown

BASES = Path(__file__).parents[1] / "bases"
FILE = "the path of a .toml file"
FROM_DATA = ("image_size", "channels", "classes")  # fields of the model that its data determine
OF_THE_DATA = {"model": FROM_DATA, "data": ("transform", *LATENT_FIELDS)}
_TABLES = ("sizes", *(name for name, info in Config.model_fields.items() if info.annotation is not int))
MOST_EXTENDING = 50
_NAME = r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*"


def bases() -> list[str]:
    return list(_names(BASES))


@lru_cache
def _names(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in folder.glob("*.toml")))


def is_recipe_file(base: str) -> bool:
    """Return whether a base is given as the path of a file."""
    return base.lower().endswith(".toml")


def check_base(base: str) -> None:
    """Raise UserError unless this is a base of the package, or a file with a name that folders can be named after."""
    path = _located(base, Path(), "base")
    if is_recipe_file(base) and (len(path.stem) > 80 or not re.fullmatch(_NAME, path.stem)):
        raise UserError(
            f"{base}: a base's file name has 1 to 80 letters, digits and _ - . only, begins with a letter or digit and "
            "has no .., because manifests and reports are named after it"
        )


def _located(name: str, folder: Path, what: str) -> Path:
    """Return the file of a base of the package, or of a path relative to `folder`; raise UserError if there is none."""
    if not is_recipe_file(name):
        if name in bases():
            return BASES / f"{name}.toml"
        raise unknown(what, name, bases(), FILE)
    path = Path(os.path.normpath(folder.absolute() / Path(name).expanduser()))
    if not path.exists():
        stem = path.name.removesuffix(".toml")
        raise UserError(f"{what}: {path}: no such file{f'; did you mean {stem!r}?' if stem in bases() else ''}")
    return path


def base_name(base: str) -> str:
    """Return the name under which a base's runs are listed: that of a file is its own without .toml."""
    return Path(base).stem if is_recipe_file(base) else base


def load_base(name: str) -> Mapping[str, Any]:
    """Return the recipe of a base, or in a `.toml` file: the sections of a config, and `size` and `sizes`.

    What it extends is merged in, field by field. Relative paths in a file are relative to it, and made absolute.
    """
    whole: dict[str, Any] = {"model": {}, "sizes": {}}
    for _, recipe in reversed(lineage(name)):
        whole = _merged(whole, recipe)
    return whole


def lineage(base: str) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the base and those that it extends, nearest first: the name of each, and the fields that it contributes.

    One whose data are others' does not contribute what is of its data.
    """
    path = _located(base, Path(), "base")
    return [(file.stem, recipe) for file, recipe in _lineage(Path(base) if is_recipe_file(base) else path, ())]


def _lineage(path: Path, extending: tuple[Path, ...]) -> list[tuple[Path, Mapping[str, Any]]]:
    """Return the recipe of a file, and those of what it extends; `extending` are the files that extend it."""
    if path in extending:
        raise UserError(f"{extending[0]}: extends: {' -> '.join(map(str, [*extending, path]))} is a cycle")
    if len(extending) > MOST_EXTENDING:
        raise UserError(f"{extending[0]}: extends: more than {MOST_EXTENDING} files, one by the other")
    recipe = _read(path)
    own = {name: part for name, part in recipe.items() if name != "extends"}
    if "extends" not in recipe:
        return [(path, own)]
    below = _lineage(_located(str(recipe["extends"]), path.parent, f"{path}: extends"), (*extending, path))
    if recipe.get("data", {}).keys() & {"name", "root"}:
        below = [(file, _without_data(one)) for file, one in below]
    return [(path, own), *below]


def _without_data(recipe: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the recipe without the fields that are of its data."""
    kept = {section: _without(recipe[section], OF_THE_DATA[section]) for section in OF_THE_DATA if section in recipe}
    return {**recipe, **kept}


def _without(section: Mapping[str, Any], fields: Collection[str]) -> Mapping[str, Any]:
    return {name: value for name, value in section.items() if name not in fields}


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tables merged field by field; of a field that both have, the value of `above`."""
    out = dict(below)
    for name, value in above.items():
        both = isinstance(value, dict) and isinstance(out.get(name), dict)
        out[name] = _merged(out[name], value) if both else value
    return out


def _read(path: Path) -> Mapping[str, Any]:
    """Return the content of a file, read again only if it is replaced or changed."""
    try:
        status = path.stat()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{path}: not a regular file")
    return _parsed(path, status.st_ino, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _parsed(path: Path, *_version: int) -> Mapping[str, Any]:
    try:
        recipe = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid TOML ({error})") from None
    for name in _TABLES:
        if not isinstance(recipe.get(name, {}), dict):
            raise UserError(f"{path}: {name}: must be a table")
    return recipe if path.parent == BASES else _with_absolute_paths(recipe, path.parent)


def _with_absolute_paths(recipe: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    sections = {key.partition(".")[0] for key in PATHS}
    return {
        name: {field: absolute(f"{name}.{field}", value, folder) for field, value in part.items()}
        if name in sections
        else part
        for name, part in recipe.items()
    }
