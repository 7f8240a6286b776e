"""Which images of a source are taken, in which order, with which labels."""

import csv
import difflib
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from diffussm.config.schema_errors import quoted
from diffussm.data.sources.base import MAX_CLASSES, Entry, Found, check_classes, printable
from diffussm.data.sources.files import read_text
from diffussm.errors import UserError

AUTO, NONE = "auto", "none"
_TITLES = ("path", "relative path", "file", "filename", "file_name", "name", "image", "imageid")


class Selection(NamedTuple):
    """The images to take, with labels if there are `classes`, and what was left out."""

    entries: list[Entry]
    classes: tuple[str, ...]  # their names in the order of the labels
    skipped: dict[str, int]


def select(found: Found, labels: str, classes: Path | None, limit: int | None) -> Selection:
    """Return what is taken of a source.

    `labels` is auto (the source's own), none, or a file; `classes` a file that selects, orders and names them. Of
    more than `limit` images, image `i * count // limit` is taken for each i. Raises UserError about a file.
    """
    entries, names, skipped = found.entries, found.classes, Counter(found.skipped)
    if labels == AUTO:
        check_classes(found, ", or --split with that of the folder, or --labels none for the images of all")
    if labels == NONE:
        entries, names = [entry._replace(label=None) for entry in entries], ()
    elif labels != AUTO:
        entries, names = _labelled(entries, Path(labels))
        if unlisted := len(found.entries) - len(entries):
            skipped[f"not in {printable(Path(labels).name)}"] = unlisted
    if classes is not None:
        if not names:
            raise UserError(f"--classes {classes}: the images have no labels to select by; see --labels")
        count = len(entries)
        entries, names = _of_classes(entries, names, classes)
        if others := count - len(entries):
            skipped["of other classes"] = others
    if limit is not None and limit < len(entries):
        skipped["beyond --limit"] = len(entries) - limit
        entries = [entries[i * len(entries) // limit] for i in range(limit)]
    return Selection(entries, tuple(map(printable, names)), dict(skipped))


def _labelled(entries: list[Entry], file: Path) -> tuple[list[Entry], tuple[str, ...]]:
    """Return the entries that a file gives labels to, and the names of its classes."""
    text = read_text(file)
    is_json = text.lstrip().startswith("{") or file.suffix.lower() == ".json"
    labels, names = _from_json(text, file) if is_json else _from_csv(text, file)
    present = {entry.name for entry in entries}
    if missing := [name for name in labels if name not in present]:
        shown = f"{quoted(missing[0])}{f' and {len(missing) - 1:,} others' if len(missing) > 1 else ''}"
        raise UserError(f"{file}: names images that the source does not have: {shown}")
    return [entry._replace(label=labels[entry.name]) for entry in entries if entry.name in labels], names


def _from_json(text: str, file: Path) -> tuple[dict[str, int], tuple[str, ...]]:
    """Of EDM's dataset.json: {"labels": [[name, class], ...]}."""
    try:
        content: Any = json.loads(text)
        rows = content["labels"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UserError(f'{file}: is not of the form {{"labels": [[relative path, class], ...]}}') from None
    if not isinstance(rows, list) or not rows:
        raise UserError(f"{file}: labels: allowed: a list of [relative path, class], one or more")
    labels: dict[str, int] = {}
    for number, row in enumerate(rows):
        match row:
            case [str(name), int(label)] if not isinstance(label, bool) and 0 <= label < MAX_CLASSES:
                _add(labels, name, label, file)
            case _:
                raise UserError(
                    f"{file}: labels[{number}]: allowed: [relative path, class], a class from 0 to {MAX_CLASSES - 1}"
                )
    return labels, tuple(map(str, range(max(labels.values()) + 1)))


def _from_csv(text: str, file: Path) -> tuple[dict[str, int], tuple[str, ...]]:
    """Of lines `relative path,class`; the classes are in the order of their numbers, or of their names."""
    classes: dict[str, str] = {}
    try:
        rows = list(csv.reader(text.splitlines(), strict=True))
    except csv.Error as error:
        raise UserError(f"{file}: is not CSV: {error}") from None
    if rows and rows[0] and rows[0][0].strip().lower() in _TITLES:
        rows[0] = []
    for number, row in enumerate(rows, 1):
        if not row:
            continue
        if len(row) != 2 or not row[0].strip() or not row[1].strip():
            raise UserError(f"{file}: line {number}: expected `relative path,class`")
        _add(classes, row[0].strip(), row[1].strip(), file)
    if not classes:
        raise UserError(f"{file}: holds no line `relative path,class`")
    are_numbers = all(re.fullmatch(r"\d{1,9}", name) for name in classes.values())
    names = sorted(set(classes.values()), key=(lambda name: (int(name), name)) if are_numbers else None)
    index = {name: label for label, name in enumerate(names)}
    return {path: index[name] for path, name in classes.items()}, tuple(names)


def _add(labels: dict[str, Any], name: str, label: Any, file: Path) -> None:
    if labels.setdefault(name, label) != label:
        raise UserError(f"{file}: gives {quoted(name)} two classes")


def _of_classes(entries: list[Entry], names: tuple[str, ...], file: Path) -> tuple[list[Entry], tuple[str, ...]]:
    """Return the entries of the classes that a file lists, and the names that it gives them."""
    chosen: dict[str, str] = {}
    for number, line in enumerate(read_text(file).splitlines(), 1):
        if not line.strip():
            continue
        name, shown = _named_class(line.strip(), names, f"{file}: line {number}")
        if name in chosen:
            raise UserError(f"{file}: line {number}: names class {quoted(name)} a second time")
        chosen[name] = shown
    if not chosen:
        raise UserError(f"{file}: names no class")
    twice = {shown for shown, count in Counter(chosen.values()).items() if count > 1}
    index = {names.index(name): label for label, name in enumerate(chosen)}
    kept = [entry._replace(label=index[entry.label]) for entry in entries if entry.label in index]
    if not kept:
        raise UserError(f"{file}: the source has no image of these classes")
    return kept, tuple(f"{shown} ({name})" if shown in twice else shown for name, shown in chosen.items())


def _named_class(line: str, names: tuple[str, ...], where: str) -> tuple[str, str]:
    """Return a class and its name for display: the line is the class, or begins with it."""
    if line in names:
        return line, line
    for end in range(len(line) - 1, 0, -1):
        if line[end] in "\t ," and line[:end] in names:
            return line[:end], line[end + 1 :].strip(" \t,") or line[:end]
    nearest = difflib.get_close_matches(re.split(r"[\t ,]", line)[0], names, n=1, cutoff=0.5)
    hint = f"; did you mean {quoted(nearest[0])}?" if nearest else f"; the first is {quoted(names[0])}"
    raise UserError(f"{where}: {quoted(line)} begins with none of the {len(names)} classes{hint}")
