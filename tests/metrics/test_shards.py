"""Shards: the same whoever makes them, whatever is damaged, and when two do the same work at once."""

import io
import shutil
import threading
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffussm.distributed.group import SINGLE_PROCESS, ProcessGroup
from diffussm.metrics import shards as shards_module
from diffussm.metrics.shards import Arrays, Shards

COUNT, SIZE = 12, 5
ARRAYS = ("x", "y")


def make(start: int, count: int) -> Arrays:
    index = np.arange(start, start + count)
    return {"x": np.random.default_rng(0).normal(size=(COUNT, 3))[index], "y": index}


def never_called(start: int, count: int) -> Arrays:
    raise AssertionError(f"{start} is there")


@dataclass(frozen=True)
class InThread(ProcessGroup):
    """One of `world_size` threads; rank zero writes what it broadcasts to the board."""

    rendezvous: threading.Barrier = field(default_factory=lambda: threading.Barrier(1))
    board: list[Any] = field(default_factory=list)

    def broadcast(self, value: Any) -> Any:
        if self.is_rank_zero:
            self.board[:] = [value]
        self.rendezvous.wait(20)
        found = self.board[0]
        self.rendezvous.wait(20)
        return found

    def first_nonempty(self, value: Any) -> Any:
        assert not value
        self.barrier()
        return value

    def barrier(self) -> None:
        self.rendezvous.wait(20)


def in_threads(count: int, work: Callable[[ProcessGroup], Any]) -> list[Any]:
    rendezvous, board, found = threading.Barrier(count), [], [None] * count  # type: ignore[var-annotated]

    def one(rank: int) -> None:
        found[rank] = work(InThread(rank, count, rendezvous, board))

    threads = [threading.Thread(target=one, args=(rank,)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return found


@pytest.fixture
def shards(tmp_path: Path) -> Shards:
    return Shards(tmp_path / "shards", COUNT, SIZE, ARRAYS)


def check(shards: Shards) -> None:
    for name, expected in make(0, COUNT).items():
        np.testing.assert_array_equal(shards.whole(name), expected)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_any_number_of_processes(count: int, shards: Shards) -> None:
    made: list[int] = []
    told: dict[int, list[int]] = {rank: [] for rank in range(count)}

    def counted(start: int, size: int) -> Arrays:
        made.append(start)
        return make(start, size)

    in_threads(count, lambda processes: shards.make(counted, processes, told[processes.rank].append))
    assert sorted(made) == [0, 5, 10]
    assert told[0][0] == 0
    assert told[0][-1] == COUNT
    assert told[0] == sorted(told[0])
    check(shards)


@pytest.mark.parametrize("ranks", [(0,), (1,), (2,), (0, 2)])
def test_what_others_left_is_made_by_whoever_comes(ranks: tuple[int, ...], shards: Shards) -> None:
    """Some of three processes did their part before all were killed."""
    for rank in ranks:
        for start, stop in ProcessGroup(rank, 3).strided_shard(shards.ranges):
            content = io.BytesIO()
            np.savez(content, **make(start, stop - start))  # type: ignore[arg-type]
            shards.folder.mkdir(exist_ok=True)
            shards.path(start, stop).write_bytes(content.getvalue())
    told: list[int] = []
    shards.make(make, progress=told.append)
    assert told[0] == sum(stop - start for start, stop in (shards.ranges[rank] for rank in ranks))
    check(shards)
    shards.make(never_called)


def test_truncated_anywhere_or_changed_anywhere_is_made_anew(shards: Shards) -> None:
    shards.make(make)
    path = shards.path(10, 12)
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place])
        assert shards.missing() == [(10, 12)], place
    (data,) = (i for i in range(len(whole)) if whole[i:].startswith(make(10, 2)["x"].tobytes()))
    for place in range(data, data + 48):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert shards.missing() == [(10, 12)], place
    for place in range(0, len(whole), 7):  # in what describes it, where not every bit matters
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        shards.make(make)
        check(shards)


def test_one_that_lacks_an_array_is_made_anew(shards: Shards) -> None:
    shards.make(make)
    np.savez(shards.path(0, 5), x=make(0, 5)["x"])
    assert shards.missing() == [(0, 5)]
    with zipfile.ZipFile(shards.path(5, 10), "w"):
        pass
    assert shards.missing() == [(0, 5), (5, 10)]
    shards.make(make)
    check(shards)


def test_those_of_another_size_do_not_matter(shards: Shards) -> None:
    other = Shards(shards.folder, COUNT, 4, ARRAYS)
    other.make(lambda start, count: {name: 0 * array for name, array in make(start, count).items()})
    shards.make(make)
    check(shards)
    shards.remove()
    assert not shards.folder.exists()


@pytest.mark.parametrize("count", [1, 3])
def test_shards_that_another_removed_are_made_again(count: int, shards: Shards) -> None:
    left = [1]

    def merge() -> Any:
        if left:
            left.pop()
            shutil.rmtree(shards.folder)
        return shards.whole("x")

    found = in_threads(count, lambda processes: shards.merged(make, merge, processes))
    np.testing.assert_array_equal(found[0], make(0, COUNT)["x"])
    assert all(other is None for other in found[1:])


def test_another_that_is_done_is_enough(shards: Shards) -> None:
    done = []

    def then_done(start: int, count: int) -> Arrays:
        done.append(start)
        return make(start, count)

    assert shards.merged(then_done, never_called, is_done=lambda: bool(done)) is None  # type: ignore[arg-type]
    assert done == [0]

    def merge() -> Any:
        shards.remove()
        done.append(-1)
        return shards.whole("x")

    done.clear()
    assert shards.merged(make, merge, is_done=lambda: bool(done)) is None


def test_shards_that_never_appear_are_an_error(shards: Shards) -> None:
    def merge() -> Any:
        shards.remove()
        return shards.whole("x")

    with pytest.raises(FileNotFoundError):
        shards.merged(make, merge)


def test_a_folder_that_vanishes_while_a_shard_is_written(shards: Shards, monkeypatch: pytest.MonkeyPatch) -> None:
    usual, calls = shards_module.write_whole, iter(range(100))

    def at_first_not(path: Path, content: Any) -> None:
        if next(calls) < 2:
            raise FileNotFoundError(path)
        usual(path, content)

    monkeypatch.setattr(shards_module, "write_whole", at_first_not)
    shards.make(make, SINGLE_PROCESS)
    check(shards)


def test_the_first_ones(shards: Shards) -> None:
    shards.make(make)
    for count in (1, 5, 6, 12):
        np.testing.assert_array_equal(shards.first("y", count), np.arange(count))
