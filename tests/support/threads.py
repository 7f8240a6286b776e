"""Threads of this process as the processes of a group."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from diffussm.distributed.group import ProcessGroup


@dataclass(frozen=True)
class InThread(ProcessGroup):
    """One of `world_size` threads; rank zero writes what it broadcasts to the board."""

    rendezvous: threading.Barrier = field(default_factory=lambda: threading.Barrier(1))
    board: list[Any] = field(default_factory=list)
    given: list[Any] = field(default_factory=list)

    def broadcast(self, value: Any) -> Any:
        if self.is_rank_zero:
            self.board[:] = [value]
        self.rendezvous.wait(20)
        found = self.board[0]
        self.rendezvous.wait(20)
        return found

    def first_nonempty(self, value: Any) -> Any:
        if value:
            self.given.append(value)
        self.barrier()
        return self.given[0] if self.given else value

    def barrier(self) -> None:
        self.rendezvous.wait(20)


def in_threads(count: int, work: Callable[[ProcessGroup], Any]) -> list[Any]:
    """What `work` returns in each of `count` threads."""
    rendezvous, board, given, found = threading.Barrier(count), [], [], [None] * count  # type: ignore[var-annotated]

    def one(rank: int) -> None:
        found[rank] = work(InThread(rank, count, rendezvous, board, given))

    threads = [threading.Thread(target=one, args=(rank,)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return found
