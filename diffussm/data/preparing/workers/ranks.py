"""Making of shards by the processes of torchrun or srun, which share the folder `OUT.partial`.

Rank r of N makes every N-th shard that is not finished, beginning with the r-th. One that fails leaves a file by which
the others know; then all end with its error. One that is killed leaves its finished shards.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from diffussm.data.preparing.partial import FinishedShard, PartialSet
from diffussm.data.preparing.recipe import Recipe
from diffussm.data.preparing.workers.processes import make_shards
from diffussm.data.sources.base import Entry
from diffussm.distributed.group import ProcessGroup
from diffussm.errors import UserError

SECONDS = 1.0  # between looks at what the others have done


class _OtherFailed(Exception):
    """Another process has failed."""


def make_shards_by_ranks(
    recipe: Recipe,
    partial: PartialSet,
    entries: Sequence[Entry],
    missing: Sequence[int],
    processes: int,
    progress: Callable[[int], None],
    group: ProcessGroup,
) -> dict[int, FinishedShard]:
    """Return the missing shards on rank zero, those of all ranks; on the others nothing.

    `progress` is called with the number of images done by all. A UserError or OSError of one rank is raised on all;
    LostProcess if one has ended.
    """
    wanted = {number: [entries[i] for i in partial.plan.images_of(number)] for number in group.strided_shard(missing)}
    if group.world_size == 1:
        return make_shards(recipe, partial, wanted, processes, progress)
    made: dict[int, FinishedShard] = {}
    error: Exception | None = None
    try:
        made = make_shards(recipe, partial, wanted, processes, _Watch(partial, missing, wanted, progress))
    except _OtherFailed:
        pass
    except (UserError, OSError) as raised:
        partial.set_failed()
        error = raised
    if error := group.first_nonempty(error):
        raise error
    parts = group.gather(made)
    progress(sum(len(partial.plan.images_of(number)) for number in missing))
    return {number: shard for part in parts for number, shard in part.items()}


class _Watch:
    """Progress of this rank's images, which looks at what the others have done: their finished shards."""

    def __init__(
        self,
        partial: PartialSet,
        missing: Sequence[int],
        own: dict[int, list[Entry]],
        progress: Callable[[int], None],
    ):
        self._partial, self._progress = partial, progress
        self._others = set(missing) - own.keys()
        self._done_by_others, self._looked = 0, 0.0

    def __call__(self, done: int) -> None:
        if time.monotonic() - self._looked > SECONDS:
            if self._partial.has_failed():
                raise _OtherFailed
            finished = self._partial.recorded() & self._others
            self._done_by_others = sum(len(self._partial.plan.images_of(number)) for number in finished)
            self._looked = time.monotonic()
        self._progress(done + self._done_by_others)


@contextmanager
def interrupted_by_sigterm(group: ProcessGroup) -> Iterator[None]:
    """Let SIGTERM, by which torchrun and SLURM end the processes of a group, do what Ctrl-C does."""
    if group.world_size == 1 or threading.current_thread() is not threading.main_thread():
        yield
        return
    former = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)
