"""Many samples as files of one batch each, made by one process or many, so that a kill loses a batch at most.

A shard's content depends on its place alone, not on who makes it or when: whoever finds one there leaves it. Two who
do the same work at once share them; who is done first removes them, and the other makes again what it misses.
"""

import contextlib
import io
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from diffussm.distributed.group import SINGLE_PROCESS, ProcessGroup
from diffussm.stopping import Stopped
from diffussm.store.writing import write_whole

Arrays = dict[str, NDArray[Any]]
Merged = TypeVar("Merged")

ROUNDS = 3  # of making what is missing
TRIES = 5  # to write into a folder that another removes
_BROKEN = (OSError, EOFError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error)


def ignore(done: int) -> None:
    """No progress shown."""


def never() -> bool:
    """Nobody else does the work."""
    return False


@dataclass(frozen=True)
class Shards:
    """`count` samples in shards of `size` in `folder`; each an .npz of `arrays` whose first axis is the sample."""

    folder: Path
    count: int
    size: int
    arrays: tuple[str, ...]

    @property
    def ranges(self) -> list[tuple[int, int]]:
        return [(start, min(start + self.size, self.count)) for start in range(0, self.count, self.size)]

    def path(self, start: int, stop: int) -> Path:
        return self.folder / f"{start:09d}-{stop:09d}.npz"

    def missing(self) -> list[tuple[int, int]]:
        """Those that are not there, or are damaged."""
        return [(start, stop) for start, stop in self.ranges if not self._is_whole(start, stop)]

    def merged(
        self,
        make: Callable[[int, int], Arrays],
        merge: Callable[[], Merged],
        processes: ProcessGroup = SINGLE_PROCESS,
        progress: Callable[[int], object] = ignore,
        is_done: Callable[[], bool] = never,
    ) -> Merged | None:
        """`make` the missing ones and `merge` them all, in the first of the processes; None in the others.

        None in the first too where `is_done`: another has the result. FileNotFoundError where shards vanish for no
        such reason again and again, as in a folder that the processes do not share.
        """
        for last in (*[False] * (ROUNDS - 1), True):
            self.make(make, processes, progress, is_done)
            found, finished = None, True
            if processes.is_rank_zero and not is_done():
                try:
                    found = merge()
                except FileNotFoundError:
                    finished = is_done()
                    if last and not finished:
                        raise
            if processes.broadcast(finished):
                return found
        raise AssertionError

    def make(
        self,
        make: Callable[[int, int], Arrays],
        processes: ProcessGroup = SINGLE_PROCESS,
        progress: Callable[[int], object] = ignore,
        is_done: Callable[[], bool] = never,
    ) -> None:
        """Make the missing ones, each by one of the processes: `make` is given the first sample and how many.

        `progress` is told how many samples are there, as far as this process knows. Returns when all are there, or
        when they are not needed any more. Where `make` or `progress` raises Stopped in one of the processes, all do, as
        soon as each has made its part or has heard of a reason to stop itself.
        """
        missing = processes.on_rank_zero(self.missing)
        done = self.count - sum(stop - start for start, stop in missing)
        leaving: Stopped | None = None
        try:
            progress(done)
            for start, stop in processes.strided_shard(missing):
                if is_done():
                    break
                content = io.BytesIO()
                np.savez(content, **make(start, stop - start))  # type: ignore[arg-type]
                self._write(self.path(start, stop), content.getbuffer())
                done += stop - start if processes.world_size == 1 else (stop - start) * processes.world_size
                progress(min(done, self.count))
        except Stopped as stopped:
            leaving = stopped
        if leaving := processes.first_nonempty(leaving):
            raise leaving

    def parts(self, name: str) -> Iterator[NDArray[Any]]:
        """An array's part in each shard, in order."""
        for start, stop in self.ranges:
            with np.load(self.path(start, stop)) as shard:
                yield shard[name]

    def whole(self, name: str) -> NDArray[Any]:
        """An array of all samples: held once, with one shard beside it."""
        whole: NDArray[Any] | None = None
        for (start, stop), part in zip(self.ranges, self.parts(name), strict=True):
            if whole is None:
                whole = np.empty((self.count, *part.shape[1:]), part.dtype)
            whole[start:stop] = part
        assert whole is not None
        return whole

    def first(self, name: str, count: int) -> NDArray[Any]:
        """An array of the first samples."""
        parts, found = [], 0
        for part in self.parts(name):
            parts.append(part)
            found += len(part)
            if found >= count:
                break
        return np.concatenate(parts)[:count]

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _is_whole(self, start: int, stop: int) -> bool:
        with contextlib.suppress(*_BROKEN), zipfile.ZipFile(self.path(start, stop)) as shard:
            return {f"{name}.npy" for name in self.arrays} <= set(shard.namelist()) and shard.testzip() is None
        return False

    @staticmethod
    def _write(path: Path, content: memoryview) -> None:
        for last in (*[False] * (TRIES - 1), True):
            try:
                return write_whole(path, content)
            except FileNotFoundError:  # the folder was removed on the way
                if last:
                    raise
        raise AssertionError
