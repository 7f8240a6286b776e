"""Processes that are lost without a word end those that wait for them."""

import os
import signal
from collections.abc import Iterator

import pytest
from torch.distributed import HashStore  # type: ignore[attr-defined]

from diffussm.distributed import peers
from diffussm.distributed.group import ProcessGroup
from diffussm.distributed.peers import LOST_AFTER, UNREACHABLE_AFTER, Peers, watch_peers
from tests.support.processes import start_ranks


def looks(of: Peers, others: list[Peers]) -> Iterator[str]:
    """What `of` finds, again and again, after the others have counted."""
    while True:
        for other in others:
            other.look()
        yield of.look()


@pytest.mark.parametrize(("watching", "lost"), [(0, 2), (1, 0)])
def test_who_stands_still_is_lost(watching: int, lost: int) -> None:
    store = HashStore()
    everyone = [Peers(store, rank, 3) for rank in range(3)]
    found = looks(everyone[watching], [peer for rank, peer in enumerate(everyone) if rank not in (watching, lost)])
    everyone[lost].look()
    assert [next(found) for _ in range(LOST_AFTER)] == [""] * LOST_AFTER
    everyone[lost].look()  # it was only slow
    assert [next(found) for _ in range(LOST_AFTER)] == [""] * LOST_AFTER
    assert next(found) == f"nothing was heard of rank {lost} for 5 minutes"


def test_all_others_that_are_lost_are_named() -> None:
    alone = Peers(HashStore(), 0, 3)
    *early, last = (alone.look() for _ in range(LOST_AFTER + 1))
    assert set(early) == {""}
    assert last == "nothing was heard of rank 1, 2 for 5 minutes"


class Ended(HashStore):
    def add(self, *_: object) -> int:
        raise RuntimeError("Broken pipe")


def test_rank_zero_has_ended() -> None:
    peer = Peers(Ended(), 1, 2)
    *early, last = (peer.look() for _ in range(UNREACHABLE_AFTER))
    assert set(early) == {""}
    assert last == "rank 0 has ended"


def test_a_look_without_an_answer() -> None:
    peer = Peers(HashStore(), 1, 2)
    for _ in range(2):
        assert {peer.wait() for _ in range(LOST_AFTER)} == {""}
        peer.look()
    assert {peer.wait() for _ in range(LOST_AFTER)} == {""}
    assert peer.wait() == "nothing was heard of rank 0 for 5 minutes"


def hangs(processes: ProcessGroup, rank: int) -> None:
    peers.LOOK_SECONDS = 0.02
    with watch_peers(processes, "127.0.0.1"):
        processes.barrier()
        if processes.rank == rank:
            os.kill(os.getpid(), signal.SIGSTOP)
        processes.barrier()


@pytest.mark.parametrize("rank", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_process_that_hangs_ends_the_other(rank: int) -> None:
    ranks = start_ranks(2, hangs, rank)
    ranks[1 - rank].join(60)
    assert ranks[1 - rank].exitcode == 1
    assert ranks[rank].exitcode is None
    ranks[rank].kill()
    ranks[rank].join(60)
