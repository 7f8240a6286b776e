"""A watch over the other processes of a group.

A process that ends closes its connections, and the others notice at once. One that is lost with its machine, or that
hangs, closes nothing: they would wait for as long as a collective operation may take. So each process counts up a
number while it runs, and who sees another's stand still for five minutes ends itself.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]

    from diffussm.distributed.group import ProcessGroup

LOOK_SECONDS = 10.0
LOST_AFTER = 30  # looks at which a number stands still; no time, as all may have been suspended together
UNREACHABLE_AFTER = 3  # looks at which rank zero, which holds the numbers, refuses to answer
CONNECT_TIMEOUT = timedelta(seconds=60)


class Peers:
    """The numbers that `rank` sees in a store: rank zero looks after all others, and they after rank zero."""

    def __init__(self, store: "Store", rank: int, world_size: int):
        self._store, self._rank = store, rank
        self._unmoved = dict.fromkeys(range(1, world_size) if rank == 0 else (0,), 0)
        self._numbers = dict.fromkeys(self._unmoved, -1)
        self._unreachable = self._waiting = 0

    def look(self) -> str:
        """Count up the own number and look at the others'; return which processes are lost, or ""."""
        try:
            self._store.add(str(self._rank), 1)
            found = {rank: self._store.add(str(rank), 0) for rank in self._unmoved}
        except RuntimeError:  # of the store, as its process has ended
            self._unreachable += 1
            return "rank 0 has ended" if self._unreachable >= UNREACHABLE_AFTER else ""
        finally:
            self._waiting = 0
        for rank, number in found.items():
            self._unmoved[rank] = self._unmoved[rank] + 1 if number == self._numbers[rank] else 0
        self._numbers, self._unreachable = found, 0
        return _lost(rank for rank, looks in self._unmoved.items() if looks >= LOST_AFTER)

    def wait(self) -> str:
        """Return, as `look`, that rank zero is lost: it does not answer a look since this was called often enough."""
        self._waiting += 1
        return _lost([0] if self._waiting > LOST_AFTER else [])


def _lost(ranks: Iterable[int]) -> str:
    names = ", ".join(map(str, ranks))
    return f"nothing was heard of rank {names} for {LOST_AFTER * LOOK_SECONDS / 60:g} minutes" if names else ""


def end_process(why: str) -> NoReturn:
    """End this process, whatever it waits for."""
    print(f"error: {why}: this process ends too", file=sys.stderr, flush=True)
    os._exit(1)


@contextmanager
def watch_peers(group: "ProcessGroup", address: str, end: Callable[[str], object] = end_process) -> Iterator[None]:
    """Watch the group's processes inside the context; call `end` with a reason if some are lost. All enter it together.

    `address` is rank zero's host.
    """
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    if group.is_rank_zero:
        store = TCPStore("localhost", 0, None, True, CONNECT_TIMEOUT, wait_for_workers=False)
    port = group.broadcast(store.port if group.is_rank_zero else 0)
    if not group.is_rank_zero:
        store = TCPStore(address, port, None, False, CONNECT_TIMEOUT, wait_for_workers=False)
    peers, ended = Peers(store, group.rank, group.world_size), threading.Event()

    def repeat(check: Callable[[], str]) -> None:
        while not ended.wait(LOOK_SECONDS):
            if (why := check()) and not ended.is_set():
                end(why)

    for check in (peers.look, peers.wait):
        threading.Thread(target=repeat, args=(check,), name="watch over peers", daemon=True).start()
    try:
        yield
    finally:
        ended.set()
