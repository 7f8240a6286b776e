"""Tasks of a step find each other at ports that other programs may use."""

import itertools
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import pytest

from diffussm.distributed import rendezvous
from diffussm.distributed.launch_environment import LaunchInfo
from diffussm.errors import UserError
from tests.support.processes import free_port

TIMEOUT = timedelta(seconds=30)


@pytest.fixture
def launch(monkeypatch: pytest.MonkeyPatch) -> LaunchInfo:
    monkeypatch.setattr(rendezvous, "GREETING_TIMEOUT", 0.5)
    return LaunchInfo(0, 3, "127.0.0.1", tuple(free_port() for _ in range(3)), "local/1/0")


@contextmanager
def silent(port: int) -> Iterator[None]:
    """Listen on the port, accept connections and send nothing."""
    with socket.create_server(("127.0.0.1", port)):
        yield


def tell_each_other(launch: LaunchInfo) -> list[bytes]:
    """Return what each task received: every task sends its rank to all, and the last one starts first. No task closes
    its store, which all share on task 0, before all have read."""
    all_have_read = threading.Barrier(launch.world_size, timeout=TIMEOUT.total_seconds())

    def one(rank: int) -> bytes:
        store = rendezvous.open_store(replace(launch, rank=rank), TIMEOUT)
        store.set(f"rank {rank}", str(rank))
        received = b"".join(store.get(f"rank {other}") for other in range(launch.world_size))
        all_have_read.wait()
        return received

    with ThreadPoolExecutor(launch.world_size) as tasks:
        return list(tasks.map(one, reversed(range(launch.world_size))))


def test_at_the_first_port(launch: LaunchInfo) -> None:
    assert tell_each_other(launch) == [b"012"] * 3


def test_past_another_program_and_another_step(launch: LaunchInfo) -> None:
    other = replace(launch, step_id="local/2/0", ports=launch.ports[1:])
    with silent(launch.ports[0]), rendezvous._announced(other, 7):
        assert tell_each_other(launch) == [b"012"] * 3


def test_no_port_is_free(launch: LaunchInfo) -> None:
    with ExitStack() as stack:
        for port in launch.ports:
            stack.enter_context(silent(port))
        with pytest.raises(UserError, match=r"\(tried \d+, \d+, \d+: Address already in use\); set MASTER"):
            rendezvous.open_store(launch, TIMEOUT)


@pytest.mark.parametrize(
    ("rank", "message"),
    [
        (2, r"task 0 was not found at 127\.0\.0\.1, ports .*, within 0\.01 minutes; check its log"),
        (0, r"task 1, task 2 did not connect to 127\.0\.0\.1 within 0\.01 minutes"),
    ],
)
def test_a_task_that_does_not_connect(
    rank: int, message: str, launch: LaunchInfo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rendezvous, "RENDEZVOUS_TIMEOUT", 0.6)
    monkeypatch.setattr(rendezvous, "WARN_AFTER", 0.1)
    with pytest.raises(UserError, match=message):
        rendezvous.open_store(replace(launch, rank=rank), TIMEOUT)
    assert f"task {rank}: waiting for task {1 if rank == 0 else 0}" in capsys.readouterr().err


@pytest.mark.parametrize("line", ["local/1/0 12", "local/1/0 twelve\n", "local/1/0 \n", "\n", "local/2/0 12\n"])
def test_what_is_no_announcement(line: str, launch: LaunchInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "RENDEZVOUS_TIMEOUT", 0.1)
    monkeypatch.setattr(rendezvous, "read_greeting", lambda *_: line)
    with pytest.raises(UserError, match="task 0 was not found at"):
        rendezvous.open_store(replace(launch, rank=1), TIMEOUT)


def test_a_store_out_of_reach(launch: LaunchInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "CONNECT_TIMEOUT", 0.5)
    with rendezvous._announced(launch, free_port()), pytest.raises(UserError, match="cannot be reached"):
        rendezvous.open_store(replace(launch, rank=1), TIMEOUT)


def test_a_program_that_never_ends_its_line(launch: LaunchInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that advances by a fifth of the timeout at each reading allows four reads."""
    readings = itertools.count()
    clock = SimpleNamespace(monotonic=lambda: next(readings) * rendezvous.GREETING_TIMEOUT / 5)
    monkeypatch.setattr(rendezvous, "time", clock)

    def drip(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection, suppress(OSError):
            while True:
                connection.send(b".")
                time.sleep(0.05)

    with socket.create_server(("127.0.0.1", launch.ports[0])) as server:
        threading.Thread(target=drip, args=(server,), daemon=True).start()
        assert set(rendezvous.read_greeting("127.0.0.1", launch.ports[0])) == {"."}
        assert next(readings) == 6  # for the deadline, before each of four reads, and at the end
