"""Where compiled code is kept: in the user's cache, under a digest of what it was compiled from.

numba itself looks at one source file, its place and its time; so every copy of this package, as a launch makes them,
would compile anew, and a change in another file would go unseen. Versions of numba and Python, and the processor, are
told apart by numba.
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
    """RuntimeError where nobody knows this user's home."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    numbas = os.environ.get("NUMBA_CACHE_DIR")
    return (Path(numbas) if numbas else user_cache()) / f"compiled-{digest}"


class Locator:
    """What numba asks for the place and the age of a function's code."""

    @classmethod
    def from_function(cls, *_: Any) -> "Locator | None":
        """None where nothing can be kept."""
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


class _Kept(CompileResultCacheImpl):
    _locator_classes = (Locator,)


class Cache(FunctionCache):
    """RuntimeError, when made, where there is no place for it."""

    _impl_class = _Kept


def with_cache(function: Callable[..., None], compile_: Callable[[Cache | None], Any]) -> Any:
    """What `compile_` makes of a function's cache, one process at a time; of None where the cache is of no use."""
    try:
        kept = Cache(function)
        with _alone():
            return compile_(kept)
    except Exception:  # no place for it, a full disk, a file that something spoiled; or the code is wrong, as will show
        return compile_(None)


@contextmanager
def _alone() -> Iterator[None]:
    with ExitStack() as held:
        try:
            import fcntl

            lock = held.enter_context((folder() / "compiling.lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
            held.callback(fcntl.flock, lock, fcntl.LOCK_UN)  # a process forked meanwhile has the file open too
        except (ImportError, OSError):  # not Unix, a file system without locks: at worst, all compile
            pass
        yield
