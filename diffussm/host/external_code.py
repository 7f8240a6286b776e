"""Digests of code from outside this package that a run uses, such as its own mixer. No torch."""

import contextlib
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from diffussm.host import source

_NAME = re.compile(r"([^\W\d]\w*)(\.[^\W\d]\w*)*:[^\W\d]\w*")  # package.module:NAME
_IMPORT = re.compile(rb"^[ \t]*(?:from[ \t]+(\w+)[\w.]*[ \t]+import\b|import[ \t]+([^#;\n]+))", re.MULTILINE)


def digests(names: Iterable[str]) -> dict[str, str]:
    """Return top-level module -> digest of its source, for those of `names` that are a `package.module:NAME`.

    The source is that of the module or, of a package, its Python files, and of the user's own modules that it imports.
    It is read once: later changes do not reach a module that is loaded.
    """
    modules = sorted({match[1] for name in names if (match := _NAME.fullmatch(name))})
    return {module: found for module in modules if (found := _digest(module))}


def is_own(file: Path) -> bool:
    """Return whether a file is the user's own code: neither installed, nor part of Python or of this project."""
    foreign = [Path(sysconfig.get_path(key)) for key in ("purelib", "platlib", "stdlib", "platstdlib")]
    foreign += [source.ROOT / folder for folder in (*source.PACKAGES, "reports", "bench", "tests")]
    resolved = file.resolve()
    is_installed = {"site-packages", "dist-packages"}.intersection(resolved.parts)
    return not is_installed and not any(resolved.is_relative_to(part.resolve()) for part in foreign)


def search_working_directory() -> None:
    """Let modules be imported from the working directory too."""
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))


@cache
def _digest(module: str) -> str:
    """Return the digest of a top-level module's source; "" if there is none."""
    search_working_directory()
    content: dict[str, bytes] = {}
    pending, seen = [module], set[str]()
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        files = {path: file for path, file in _files(name).items() if name == module or is_own(file)}
        found = {path: file.read_bytes() for path, file in files.items()}
        content |= found
        pending += [imported for data in found.values() for imported in _imported(data)]
    return source.digest(content) if content else ""


def _files(module: str) -> dict[str, Path]:
    """Return relative path -> file of a top-level module's source."""
    with contextlib.suppress(ImportError, ValueError):
        spec = find_spec(module)
        if spec and spec.submodule_search_locations is not None:
            roots = [Path(root) for root in spec.submodule_search_locations]
            return {
                f"{module}/{file.relative_to(root).as_posix()}": file
                for root in roots
                for file in sorted(root.rglob("*.py"))
                if file.is_file()
            }
        if spec and spec.origin and spec.origin.endswith(".py"):
            return {f"{module}.py": Path(spec.origin)}
    return {}


def _imported(data: bytes) -> Iterator[str]:
    """Yield the top-level names that a source file imports, except from its own package."""
    for origin, imported in _IMPORT.findall(data):
        for name in [origin] if origin else imported.split(b","):
            yield re.split(rb"\W", name.strip(), maxsplit=1)[0].decode("ascii", "ignore")
