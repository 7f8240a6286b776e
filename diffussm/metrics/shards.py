"""Many samples as files of one batch each, made by one process or many, so that a kill loses a batch at most.

A shard's content depends on its place alone, not on who makes it or when: whoever finds one there leaves it.
"""

import contextlib
import io
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffussm.processes import ALONE, Processes
from diffussm.workdir import write_whole

Arrays = dict[str, NDArray[Any]]


def ignore(done: int) -> None:
    """No progress shown."""


@dataclass(frozen=True)
class Shards:
    """`count` samples in shards of `size` in `folder`; each shard an .npz of arrays whose first axis is the sample."""

    folder: Path
    count: int
    size: int

    @property
    def ranges(self) -> list[tuple[int, int]]:
        return [(start, min(start + self.size, self.count)) for start in range(0, self.count, self.size)]

    def path(self, start: int, stop: int) -> Path:
        return self.folder / f"{start:09d}-{stop:09d}.npz"

    def missing(self) -> list[tuple[int, int]]:
        """Those that are not there, or are damaged."""
        return [(start, stop) for start, stop in self.ranges if not _is_whole(self.path(start, stop))]

    def make(
        self,
        make: Callable[[int, int], Arrays],
        processes: Processes = ALONE,
        progress: Callable[[int], object] = ignore,
    ) -> None:
        """Make the missing ones, each by one of the processes: `make` is given the first sample and how many.

        `progress` is told how many samples are there, as far as this process knows. Returns when all are there.
        """
        missing = processes.from_first(self.missing() if processes.is_first else None)
        done = self.count - sum(stop - start for start, stop in missing)
        progress(done)
        for start, stop in processes.share(missing):
            content = io.BytesIO()
            np.savez(content, **make(start, stop - start))  # type: ignore[arg-type]
            write_whole(self.path(start, stop), content.getbuffer())
            done += stop - start if processes.count == 1 else (stop - start) * processes.count
            progress(min(done, self.count))
        processes.wait()

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


def _is_whole(path: Path) -> bool:
    with contextlib.suppress(OSError, zipfile.BadZipFile), zipfile.ZipFile(path):
        return True
    return False
