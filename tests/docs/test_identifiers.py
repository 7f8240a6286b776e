"""Identifiers use the field's terms: none contains a word that only this project would understand."""

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("ablations", "bench", "diffussm", "reports", "slurm", "tests")
WORDS = {"said", "told", "lacks", "meeting", "yardstick", "forgiven", "apart", "left"}
PHRASES = {("of", "first"), ("from", "first"), ("is", "first")}  # of ranks: rank zero
SIDES = {  # where `left` is a side, not what is pending
    ("diffussm/cost/handles.py", "left"),
    ("diffussm/cost/handles.py", "left_complex"),
    ("diffussm/data/transforms.py", "left"),
    ("diffussm/data/photos.py", "left"),
    ("diffussm/ssm/compiled/tile.py", "left"),
    ("reports/bench/figures.py", "left"),
    ("reports/grid/sample_rows.py", "left"),
    ("reports/paper/published.py", "left"),
    ("tests/data/test_folder.py", "left"),
    ("tests/data/test_transforms.py", "left"),
}
ALIGNMENT = {"left_aligned", "LEFT_ALIGNED"}  # of columns of text, in any module


def parts(name: str) -> list[str]:
    """Return the words of an identifier, in lower case."""
    return [part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", name)]


def is_forbidden(name: str) -> bool:
    words = parts(name)
    return not WORDS.isdisjoint(words) or not PHRASES.isdisjoint(pairwise(words))


def identifiers(tree: ast.AST) -> Iterator[str]:
    """Yield the names that a module defines: functions, classes, parameters, arguments, attributes, variables."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.arg(arg=name) | ast.keyword(arg=str(name)) | ast.alias(asname=str(name)):
                yield name
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield name


@pytest.mark.parametrize("folder", FOLDERS)
def test_identifiers_use_the_terms_of_the_field(folder: str) -> None:
    found = set()
    for path in sorted((ROOT / folder).rglob("*.py")):
        module = path.relative_to(ROOT).as_posix()
        names = {*identifiers(ast.parse(path.read_text())), *Path(module).with_suffix("").parts}
        found |= {(module, name) for name in names - ALIGNMENT if is_forbidden(name)}
    assert found - SIDES == set()


def test_no_exception_is_obsolete() -> None:
    for module, name in SIDES:
        assert name in identifiers(ast.parse((ROOT / module).read_text())), (module, name)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("def of_first(): ...", ["of_first"]),
        ("class Yardstick: ...", ["Yardstick"]),
        ("def f(*, told=None): ...", ["told"]),
        ("x.said = 1", ["said"]),
        ("f(apart=1)", ["apart"]),
        ("import numpy as meeting", ["meeting"]),
        ("for steps_left in []: ...", ["steps_left"]),
        ("first, soldier, left_to_right = x.left, y.told, 0", ["left_to_right"]),
    ],
)
def test_forbidden_words_are_found_in_definitions(source: str, found: list[str]) -> None:
    assert [name for name in identifiers(ast.parse(source)) if is_forbidden(name)] == found
