"""Shards: the same whoever makes them, whatever is damaged, and when two do the same work at once."""

import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffussm.distributed.group import ProcessGroup
from diffussm.errors import UserError
from diffussm.metrics import shards as shards_module
from diffussm.metrics.context import SINGLE_PROCESS_CONTEXT, EvaluationContext
from diffussm.metrics.shards import MAX_EVALUATIONS, Batch, Shards, ShardsRemoved, retry_if_shards_removed
from diffussm.stopping import Stopped
from tests.support.threads import in_threads

COUNT, SIZE = 12, 5
ARRAYS, MADE_OF = ("x", "y"), {"weights": "a"}


def make(batch: Batch) -> dict[str, np.ndarray]:
    index = np.arange(*batch)
    return {"x": np.random.default_rng(0).normal(size=(COUNT, 3))[index], "y": index}


def fill(shards: Shards, context: EvaluationContext = SINGLE_PROCESS_CONTEXT) -> list[Batch]:
    """Write what is missing; returns what was."""
    written = []
    with context.processes.join():
        for batch in context.missing(shards):
            shards.write(batch, make(batch))
            written.append(batch)
    return written


@pytest.fixture
def shards(tmp_path: Path) -> Shards:
    return Shards(tmp_path / "shards", COUNT, SIZE, ARRAYS, MADE_OF)


def check(shards: Shards) -> None:
    for name, expected in make(Batch(0, COUNT)).items():
        np.testing.assert_array_equal(shards.whole(name), expected)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_any_number_of_processes(count: int, shards: Shards) -> None:
    reported: dict[int, list[int]] = {rank: [] for rank in range(count)}

    def work(processes: ProcessGroup) -> list[Batch]:
        return fill(shards, EvaluationContext(processes, report=reported[processes.rank].append))

    written = in_threads(count, work)
    assert sorted(batch for of_one in written for batch in of_one) == [(0, 5), (5, 10), (10, 12)]
    assert reported[0][0] == 0
    assert reported[0][-1] == COUNT
    assert reported[0] == sorted(reported[0])
    check(shards)


@pytest.mark.parametrize("ranks", [(0,), (1,), (2,), (0, 2)])
def test_missing_shards_are_made_by_any_process(ranks: tuple[int, ...], shards: Shards) -> None:
    """Some of three processes did their part before all were killed."""
    for rank in ranks:
        for batch in ProcessGroup(rank, 3).strided_shard(shards.batches):
            shards.write(batch, make(batch))
    reported: list[int] = []
    assert len(fill(shards, EvaluationContext(report=reported.append))) == 3 - len(ranks)
    assert reported[0] == sum(shards.batches[rank].size for rank in ranks)
    check(shards)
    assert fill(shards) == []


def test_truncated_anywhere_or_changed_anywhere_is_made_anew(shards: Shards) -> None:
    fill(shards)
    path = shards.path(Batch(10, 12))
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place])
        assert shards.missing() == [(10, 12)], place
    (data,) = (i for i in range(len(whole)) if whole[i:].startswith(make(Batch(10, 12))["x"].tobytes()))
    for place in range(data, data + 48):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert shards.missing() == [(10, 12)], place
    for place in range(0, len(whole), 7):  # in what describes it, where not every bit matters
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        fill(shards)
        check(shards)


def test_a_shard_without_an_array_is_made_again(shards: Shards) -> None:
    fill(shards)
    np.savez(shards.path(Batch(0, 5)), x=make(Batch(0, 5))["x"])
    assert shards.missing() == [(0, 5)]
    with zipfile.ZipFile(shards.path(Batch(5, 10)), "w"):
        pass
    assert shards.missing() == [(0, 5), (5, 10)]
    fill(shards)
    check(shards)


def of_other_weights(shards: Shards) -> list[Batch]:
    other = Shards(shards.folder, COUNT, SIZE, ARRAYS, {"weights": "b"})
    other.write(Batch(0, 5), make(Batch(0, 5)))
    return [Batch(0, 5)]


def of_another_place(shards: Shards) -> list[Batch]:
    shutil.copy(shards.path(Batch(0, 5)), shards.path(Batch(5, 10)))
    return [Batch(5, 10)]


def of_a_version_that_did_not_say(shards: Shards) -> list[Batch]:
    np.savez(shards.path(Batch(10, 12)), **make(Batch(10, 12)))  # type: ignore[arg-type]
    return [Batch(10, 12)]


def a_folder_in_its_place(shards: Shards) -> list[Batch]:
    shards.path(Batch(0, 5)).unlink()
    (shards.path(Batch(0, 5)) / "mine").mkdir(parents=True)
    return [Batch(0, 5)]


def a_pipe_in_its_place(shards: Shards) -> list[Batch]:
    shards.path(Batch(0, 5)).unlink()
    os.mkfifo(shards.path(Batch(0, 5)))
    return [Batch(0, 5)]


def a_file_in_the_place_of_all(shards: Shards) -> list[Batch]:
    shards.remove()
    shards.folder.write_text("mine")
    return shards.batches


@pytest.mark.parametrize(
    "lay",
    [
        of_other_weights,
        of_another_place,
        of_a_version_that_did_not_say,
        a_folder_in_its_place,
        a_pipe_in_its_place,
        a_file_in_the_place_of_all,
    ],
)
def test_what_is_something_else_is_made_again(lay: Callable[[Shards], list[Batch]], shards: Shards) -> None:
    fill(shards)
    assert fill(shards) == []
    laid = lay(shards)
    assert fill(shards) == laid
    check(shards)


def test_those_of_another_size_do_not_matter(shards: Shards) -> None:
    other = Shards(shards.folder, COUNT, 4, ARRAYS, MADE_OF)
    for batch in other.missing():
        other.write(batch, {name: 0 * array for name, array in make(batch).items()})
    fill(shards)
    check(shards)
    shards.remove()
    assert not shards.folder.exists()


@pytest.mark.parametrize("count", [1, 3])
def test_shards_that_another_removed_are_made_again(count: int, shards: Shards) -> None:
    to_remove = [1]

    def read() -> np.ndarray:
        if to_remove:
            to_remove.pop()
            shutil.rmtree(shards.folder)
        return shards.whole("x")

    @retry_if_shards_removed
    def work(processes: ProcessGroup) -> np.ndarray:
        fill(shards, EvaluationContext(processes))
        return processes.on_rank_zero(read)

    for found in in_threads(count, work):
        np.testing.assert_array_equal(found, make(Batch(0, COUNT))["x"])
    assert to_remove == []


def test_shards_that_never_appear_are_an_error(shards: Shards) -> None:
    rounds = []

    @retry_if_shards_removed
    def work() -> np.ndarray:
        rounds.append(fill(shards))
        shards.remove()
        return shards.whole("x")

    with pytest.raises(ShardsRemoved, match="do all processes see this folder"):
        work()
    assert rounds == [[(0, 5), (5, 10), (10, 12)]] * MAX_EVALUATIONS


@pytest.mark.parametrize("error", [Stopped("SIGTERM"), UserError("of another kind")])
def test_what_one_raises_all_raise(error: Exception, shards: Shards) -> None:
    ended, ranks = [], []

    def work(processes: ProcessGroup) -> None:
        try:
            with processes.join():
                for batch in EvaluationContext(processes).missing(shards):
                    if batch.start == 5:
                        raise error
                    shards.write(batch, make(batch))
        except type(error) as raised:
            ended.append(str(raised))
            ranks.append(getattr(raised, "rank", processes.rank))

    in_threads(3, work)
    assert ended == [str(error)] * 3
    assert ranks == [1, 1, 1]
    assert shards.missing() == [(5, 10)]


def test_a_folder_that_vanishes_while_a_shard_is_written(shards: Shards, monkeypatch: pytest.MonkeyPatch) -> None:
    usual, calls = shards_module.write_atomically, iter(range(100))

    def at_first_not(path: Path, content: Any) -> None:
        if next(calls) < 2:
            raise FileNotFoundError(path)
        usual(path, content)

    monkeypatch.setattr(shards_module, "write_atomically", at_first_not)
    fill(shards)
    check(shards)


def test_the_first_ones(shards: Shards) -> None:
    fill(shards)
    for count in (1, 5, 6, 12):
        np.testing.assert_array_equal(shards.first("y", count), np.arange(count))
