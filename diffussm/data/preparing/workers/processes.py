"""Making of shards by several processes."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from diffussm.data.preparing.partial import FinishedShard, PartialSet
from diffussm.data.preparing.recipe import Recipe
from diffussm.data.preparing.shards import collect, write
from diffussm.data.sources.base import Entry
from diffussm.errors import UserError

SECONDS = 0.5  # between updates of the progress
Wanted = Mapping[int, Sequence[Entry]]  # number of a shard to its images


def make_shards(
    recipe: Recipe, partial: PartialSet, wanted: Wanted, processes: int, progress: Callable[[int], None]
) -> dict[int, FinishedShard]:
    """Return the wanted shards, made by this process or by several; call `progress` with the number of images done."""
    if min(processes, len(wanted)) <= 1:
        return _by_this_process(recipe, partial, wanted, progress)
    return _by_several(recipe, partial, wanted, min(processes, len(wanted)), progress)


def _by_this_process(
    recipe: Recipe, partial: PartialSet, wanted: Wanted, progress: Callable[[int], None]
) -> dict[int, FinishedShard]:
    """Return the wanted shards: each is written by a thread, while the next one is made."""
    done = 0

    def count() -> None:
        nonlocal done
        done += 1
        progress(done)

    writing: list[Future[FinishedShard]] = []
    with ThreadPoolExecutor(1) as thread:
        for number, entries in wanted.items():
            collected = collect(recipe, partial, number, entries, count)
            if writing:
                writing[-1].result()  # its error ends the work, and no third shard is in memory
            writing.append(thread.submit(write, recipe, partial, collected))
    return {number: future.result() for number, future in zip(wanted, writing, strict=True)}


def _by_several(
    recipe: Recipe, partial: PartialSet, wanted: Wanted, processes: int, progress: Callable[[int], None]
) -> dict[int, FinishedShard]:
    spawn = multiprocessing.get_context("spawn")
    done, stopped = spawn.Value("q", 0), spawn.Event()
    finished: dict[int, FinishedShard] = {}
    with ProcessPoolExecutor(processes, spawn, _initialise, (recipe, partial, done, stopped)) as pool:
        try:
            pending = {pool.submit(_make, number, entries): number for number, entries in wanted.items()}
            waiting: set[Future[FinishedShard]] = set(pending)
            while waiting:
                ended, waiting = wait(waiting, SECONDS, FIRST_COMPLETED)
                finished |= {pending[future]: future.result() for future in ended}
                progress(done.value)
        except BrokenProcessPool:
            raise UserError(
                f"{partial.out}: a process that prepared images was killed, perhaps for want of memory; give the same "
                "command again, with fewer --processes, and it continues"
            ) from None
        finally:
            stopped.set()
            pool.shutdown(cancel_futures=True)
    return finished


_state: dict[str, Any] = {}  # of a process of the pool


class _Stopped(Exception):
    """Another process has failed, or the user has stopped all of them."""


def _initialise(recipe: Recipe, partial: PartialSet, done: Any, stopped: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that waits for this one handles it
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _state.update(recipe=recipe, partial=partial, done=done, stopped=stopped)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _make(number: int, entries: Sequence[Entry]) -> FinishedShard:
    def count() -> None:
        with _state["done"].get_lock():
            _state["done"].value += 1
        if _state["stopped"].is_set():
            raise _Stopped

    recipe, partial = _state["recipe"], _state["partial"]
    return write(recipe, partial, collect(recipe, partial, number, entries, count))
