"""Items that are read ahead are those that would be made when they are wanted, errors too, and no thread is left."""

import gc
import os
import threading
from typing import NoReturn

import pytest

from diffussm.errors import UserError
from diffussm.host.read_ahead import ReadAhead


def square(position: int) -> int:
    return position * position


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("read ahead")]


def in_a_fork(work: ReadAhead[int], position: int) -> int:
    """Return the exit code of a fork of this process in which the item is wanted: the item."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(work.get(position))
        finally:
            os._exit(255)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("depth", [0, 1, 2, 5])
def test_every_item_is_made_in_turn(depth: int) -> None:
    made: list[int] = []

    def make(position: int) -> int:
        made.append(position)
        return square(position)

    ahead = ReadAhead(make, depth)
    assert [ahead.get(position) for position in range(40, 60)] == [square(position) for position in range(40, 60)]
    ahead.close()
    assert made[:20] == list(range(40, 60))
    assert len(made) <= 20 + depth


def test_no_more_is_made_than_the_depth() -> None:
    wanted = threading.Semaphore(0)

    def make(position: int) -> int:
        assert wanted.acquire(blocking=False), f"item {position} is made too early"
        return position

    ahead = ReadAhead(make, 2)
    wanted.release(2)
    for position in range(10):
        wanted.release()
        assert ahead.get(position) == position
    ahead.close()


def test_items_are_made_by_the_thread() -> None:
    ahead = ReadAhead(lambda _: threading.current_thread().name, 2)
    assert ahead.get(0).startswith("read ahead")
    ahead.close()
    direct = ReadAhead(lambda _: threading.current_thread(), 0)
    assert direct.get(0) is threading.current_thread()


def test_several_threads_work_at_once_and_items_keep_their_order() -> None:
    both = threading.Barrier(2)

    def make(position: int) -> int:
        if position in (1, 2):
            both.wait(60)
        return position

    ahead = ReadAhead(make, 2, threads=2)
    assert [ahead.get(position) for position in range(10)] == list(range(10))
    ahead.close()


def test_any_position_may_follow() -> None:
    ahead = ReadAhead(square, 2)
    assert [ahead.get(position) for position in (0, 1, 7, 8, 3, 3, 100)] == [0, 1, 49, 64, 9, 9, 10000]
    ahead.close()
    assert ahead.get(5) == 25
    ahead.close()


def test_an_error_is_raised_where_the_item_is_wanted() -> None:
    def make(position: int) -> int:
        if position == 3 and broken:
            raise UserError("pixels-00001.npy: is damaged")
        return position

    broken = True
    ahead = ReadAhead(make, 2)
    assert [ahead.get(position) for position in range(3)] == [0, 1, 2]
    for _ in range(2):
        with pytest.raises(UserError, match=r"pixels-00001\.npy: is damaged"):
            ahead.get(3)
    broken = False
    assert [ahead.get(position) for position in (3, 4)] == [3, 4]
    ahead.close()


def test_no_thread_remains() -> None:
    ahead = ReadAhead(square, 2)
    ahead.get(0)
    assert len(readers()) == 1
    ahead.close()
    ahead.close()
    assert readers() == []

    def fail(position: int) -> NoReturn:
        raise UserError("no such file")

    failing = ReadAhead(fail, 2)
    with pytest.raises(UserError):
        failing.get(0)
    failing.close()
    assert readers() == []
    forgotten = ReadAhead(square, 2)
    forgotten.get(0)
    (thread,) = readers()
    del forgotten
    gc.collect()
    thread.join()


def test_a_fork_reads_for_itself() -> None:
    ahead = ReadAhead(square, 2)
    assert ahead.get(2) == 4
    assert in_a_fork(ahead, 3) == 9
    assert in_a_fork(ahead, 11) == 121
    assert ahead.get(3) == 9
    ahead.close()
