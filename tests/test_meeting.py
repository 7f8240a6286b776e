"""Tasks of a step find each other at ports that other programs may have."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta

import pytest

import diffussm.meeting as meeting
from diffussm.errors import UserError
from diffussm.placement import Placement
from tests.many import free_port

PATIENCE = timedelta(seconds=30)


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Placement:
    monkeypatch.setattr(meeting, "ANSWER", 0.5)
    return Placement(0, 3, "127.0.0.1", tuple(free_port() for _ in range(3)), "local/1/0")


@contextmanager
def silent(port: int) -> Iterator[None]:
    """A program that accepts and says nothing."""
    with socket.create_server(("127.0.0.1", port)):
        yield


def tell_each_other(place: Placement) -> list[bytes]:
    """The last task begins to look before there is anything; each says its rank to all."""

    def one(rank: int) -> bytes:
        with meeting.store_of(replace(place, rank=rank), PATIENCE) as store:
            store.set(f"rank {rank}", str(rank))
            said = b"".join(store.get(f"rank {other}") for other in range(place.count))
            if store.add("done", 1) == place.count:
                store.set("all done", "")
            store.wait(["all done"])
        return said

    with ThreadPoolExecutor(place.count) as tasks:
        return list(tasks.map(one, reversed(range(place.count))))


def test_at_the_first_port(place: Placement) -> None:
    assert tell_each_other(place) == [b"012"] * 3


def test_past_another_program_and_another_step(place: Placement) -> None:
    other = replace(place, step="local/2/0", ports=place.ports[1:])
    with silent(place.ports[0]), meeting.store_of(other, PATIENCE) as store:
        assert tell_each_other(place) == [b"012"] * 3
        assert not store.check(["rank 0"])


def test_no_port_is_free(place: Placement) -> None:
    with ExitStack() as stack:
        for port in place.ports:
            stack.enter_context(silent(port))
        with pytest.raises(UserError, match=r"ports \d+, \d+, \d+: Address already in use; MASTER_PORT may"):
            stack.enter_context(meeting.store_of(place, PATIENCE))


def test_the_first_task_does_not_come(
    place: Placement, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(meeting, "ARRIVAL", 0.4)
    monkeypatch.setattr(meeting, "REMARK", 0.1)
    late = meeting.store_of(replace(place, rank=2), PATIENCE)
    with pytest.raises(UserError, match=r"task 0 was not at 127\.0\.0\.1, ports"), late:
        pass
    assert capsys.readouterr().err.count("task 2: waits for task 0 at 127.0.0.1") == 1
