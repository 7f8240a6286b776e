"""Many samples as files of one batch each, so that an interruption loses at most one batch.

A shard's content depends on its place alone, not on who makes it or when: whoever finds one leaves it. Two evaluations
that do the same work at once share their shards; the one that finishes first removes them, and the other makes those
that it misses again.
"""

import contextlib
import functools
import io
import os
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from diffussm.config import digest
from diffussm.host.source import origin
from diffussm.store.integrity.set_aside import set_aside
from diffussm.store.writing import write_atomically

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

MADE_OF = "made_of"  # array of a shard: what it is of
MAX_EVALUATIONS = 3  # in a row, if another evaluation removes the shards
MAX_WRITES = 5  # attempts to write into a folder that another evaluation removes
_BROKEN = (OSError, EOFError, RuntimeError, ValueError, KeyError, zipfile.BadZipFile, zlib.error)


class ShardsRemoved(FileNotFoundError):
    """A shard was removed before it was read."""


class Batch(NamedTuple):
    """Samples start .. stop - 1."""

    start: int
    stop: int

    @property
    def size(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Shards:
    """`count` samples in shards of `size` in `folder`; each an .npz of `arrays` whose first axis is the sample.

    `content` determines the samples beside the code: each shard states the digest of both and its place, and one that
    states another is not used.
    """

    folder: Path
    count: int
    size: int
    arrays: tuple[str, ...]
    content: Mapping[str, Any]

    @property
    def batches(self) -> list[Batch]:
        return [Batch(start, min(start + self.size, self.count)) for start in range(0, self.count, self.size)]

    def path(self, batch: Batch) -> Path:
        return self.folder / f"{batch.start:09d}-{batch.stop:09d}.npz"

    def missing(self) -> list[Batch]:
        """Return the batches whose shards are not there, are damaged, or are of something else. A folder in the place
        of a shard is set aside, and so is a file in that of their folder."""
        if os.path.lexists(self.folder) and not self.folder.is_dir():
            set_aside(self.folder)
        missing = [batch for batch in self.batches if not self._is_whole(batch)]
        for path in map(self.path, missing):
            if path.is_dir():
                set_aside(path)
        return missing

    def write(self, batch: Batch, arrays: Mapping[str, NDArray[Any]]) -> None:
        content = io.BytesIO()
        np.savez(content, **arrays, **{MADE_OF: self._made_of(batch)})  # type: ignore[arg-type]
        for _ in range(MAX_WRITES - 1):
            with contextlib.suppress(FileNotFoundError):  # the folder was removed on the way
                return write_atomically(self.path(batch), content.getbuffer())
        return write_atomically(self.path(batch), content.getbuffer())

    def parts(self, name: str) -> Iterator[NDArray[Any]]:
        """Yield an array's part in each shard, in order; raise ShardsRemoved if one is missing."""
        for batch in self.batches:
            try:
                shard = np.load(self.path(batch))
            except FileNotFoundError:
                reason = "was removed before it was read; do all processes see this folder?"
                raise ShardsRemoved(f"{self.path(batch)}: {reason}") from None
            with shard:
                yield shard[name]

    def whole(self, name: str) -> NDArray[Any]:
        """Return an array of all samples; it is held once, with one shard beside it."""
        whole: NDArray[Any] | None = None
        for batch, part in zip(self.batches, self.parts(name), strict=True):
            if whole is None:
                whole = np.empty((self.count, *part.shape[1:]), part.dtype)
            whole[batch.start : batch.stop] = part
        assert whole is not None
        return whole

    def first(self, name: str, count: int) -> NDArray[Any]:
        """Return an array of the first samples."""
        parts, found = [], 0
        for part in self.parts(name):
            parts.append(part)
            found += len(part)
            if found >= count:
                break
        return np.concatenate(parts)[:count]

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _is_whole(self, batch: Batch) -> bool:
        path = self.path(batch)
        if not path.is_file():  # a named pipe would be waited for
            return False
        with contextlib.suppress(*_BROKEN), path.open("rb") as file, np.load(file) as shard:
            return (
                {*self.arrays} <= {*shard.files}
                and shard.zip.testzip() is None
                and str(shard[MADE_OF]) == self._made_of(batch)
            )
        return False

    def _made_of(self, batch: Batch) -> str:
        return f"{self._digest} {batch.start}-{batch.stop}"

    @functools.cached_property
    def _digest(self) -> str:
        return digest({**self.content, "code": origin()["code"]})


def retry_if_shards_removed(evaluate: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Return `evaluate`, retried if it raises ShardsRemoved, which it must raise in all processes together."""

    @functools.wraps(evaluate)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        for _ in range(MAX_EVALUATIONS - 1):
            with contextlib.suppress(ShardsRemoved):
                return evaluate(*args, **kwargs)
        return evaluate(*args, **kwargs)

    return call
