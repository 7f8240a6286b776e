"""Reading ahead: threads make items in the order of their positions, some before they are wanted."""

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Item = TypeVar("Item")


class ReadAhead(Generic[Item]):
    """The items of positions 0, 1, 2, ..., made by threads, one or more: those that are wanted, and up to `depth` that
    will be.

    `make` returns the item of a position, whoever calls it and whenever. The threads start with the first item that is
    wanted, and end with `close` or with this object. With depth 0 there are none.
    """

    def __init__(self, make: Callable[[int], Item], depth: int, threads: int = 1):
        self._make, self._depth, self._threads = make, depth, threads
        self._executor: ThreadPoolExecutor | None = None
        self._process = 0  # the one that has the threads: a fork of it has none
        self._ahead: deque[Future[Item]] = deque()
        self._next = 0  # position of the first of them

    def get(self, position: int) -> Item:
        """Return the item of a position, or raise what `make` raises for it, which is made again if wanted again."""
        if self._depth == 0:
            return self._make(position)
        if self._executor is None or self._process != os.getpid():
            self._executor, self._process = ThreadPoolExecutor(self._threads, "read ahead"), os.getpid()
            self._ahead.clear()
        if position != self._next:
            self._drop_ahead()
            self._next = position
        while len(self._ahead) <= self._depth:
            self._ahead.append(self._executor.submit(self._make, position + len(self._ahead)))
        self._next += 1
        return self._ahead.popleft().result()

    def close(self) -> None:
        """End the threads, after the items that they are making. They start again if another item is wanted."""
        self._drop_ahead()
        if self._executor and self._process == os.getpid():
            self._executor.shutdown()
        self._executor = None

    def _drop_ahead(self) -> None:
        for item in self._ahead:
            item.cancel()
        self._ahead.clear()
