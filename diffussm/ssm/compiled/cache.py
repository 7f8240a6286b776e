"""The cache of compiled code: in the user's cache folder, under a digest of the sources that it was compiled from.

numba itself keys its cache on the path and modification time of one source file: every copy of this package (a launch
makes one) would be compiled again, and a change in another file would go unnoticed. numba still distinguishes versions
of numba and Python, and processors.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from numba.core.caching import CompileResultCacheImpl, FunctionCache

from diffussm.host.machine import user_cache


@cache
def folder() -> Path:
    """Return the cache folder of these sources; RuntimeError where the user's home is unknown."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    return (Path(chosen) if chosen else user_cache()) / f"compiled-{digest}"


class Locator:
    """numba's interface for where a function's code is cached and how old its source is."""

    @classmethod
    def from_function(cls, *_: Any) -> "Locator | None":
        """Return a locator, or None if the folder cannot be written."""
        try:
            locator = cls()
            locator.ensure_cache_path()
        except (OSError, RuntimeError):
            return None
        return locator

    def ensure_cache_path(self) -> None:
        folder().mkdir(parents=True, exist_ok=True)
        if not os.access(folder(), os.W_OK):
            raise PermissionError(folder())

    def get_cache_path(self) -> str:
        return str(folder())

    def get_source_stamp(self) -> str:
        return folder().name

    def get_disambiguator(self) -> str:
        return ""


class _CacheImpl(CompileResultCacheImpl):
    _locator_classes = (Locator,)


class Cache(FunctionCache):
    """A cache of one function's code; the constructor raises RuntimeError where it cannot be written."""

    _impl_class = _CacheImpl


def with_cache(function: Callable[..., None], compile_: Callable[[Cache | None], Any]) -> Any:
    """Return `compile_(cache)` of the function, one process at a time; `compile_(None)` where the cache cannot be
    used."""
    try:
        cache = Cache(function)
        with _compile_lock():
            return compile_(cache)
    except Exception:  # no folder, a full disk, a damaged file; an error in the code itself is raised again below
        return compile_(None)


@contextmanager
def _compile_lock() -> Iterator[None]:
    with ExitStack() as held:
        try:
            import fcntl

            lock = held.enter_context((folder() / "compiling.lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
            held.callback(fcntl.flock, lock, fcntl.LOCK_UN)  # a process forked meanwhile has the file open too
        except (ImportError, OSError):  # not Unix, or a file system without locks: at worst, every process compiles
            pass
        yield
