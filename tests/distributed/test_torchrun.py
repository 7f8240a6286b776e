"""Processes that torchrun starts again find each other in a store that remembers those before them."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from diffussm.distributed import torchrun
from diffussm.distributed.launch_environment import LaunchInfo
from diffussm.distributed.torchrun import may_restart, open_torchrun_store, record_error
from diffussm.errors import UserError

TIMEOUT = timedelta(seconds=30)


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> TCPStore:
    """The store of torchrun, as the environment names it."""
    store = TCPStore("127.0.0.1", 0, None, True, TIMEOUT, wait_for_workers=False)
    for name, value in (
        ("MASTER_ADDR", "127.0.0.1"),
        ("MASTER_PORT", str(store.port)),
        ("TORCHELASTIC_USE_AGENT_STORE", "True"),
    ):
        monkeypatch.setenv(name, value)
    return store


def open_on(rank: int, world_size: int) -> list[bytes]:
    """What a process reads of all, itself too."""
    store = open_torchrun_store(LaunchInfo(rank, world_size, "127.0.0.1", (0,)), TIMEOUT)
    assert not store.check([f"rank {rank}"])
    store.set(f"rank {rank}", str(rank))
    return [store.get(f"rank {other}") for other in range(world_size)]


@pytest.mark.parametrize("world_sizes", [(3, 3), (3, 2), (2, 3)])
def test_a_restart_reads_nothing_of_the_processes_before(world_sizes: tuple[int, int], agent: TCPStore) -> None:
    for world_size in world_sizes:
        with ThreadPoolExecutor(world_size) as processes:
            found = list(processes.map(lambda rank: open_on(rank, world_size), reversed(range(world_size))))  # noqa: B023
        assert found == [[b"0", b"1", b"2"][:world_size]] * world_size


def test_a_process_that_does_not_come(agent: TCPStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchrun, "RENDEZVOUS_TIMEOUT", 0.6)
    agent.set("diffussm/asked by 2", "of one that was killed")
    with pytest.raises(UserError, match=r"rank 1, 2 did not connect within 0\.01 minutes"):
        open_torchrun_store(LaunchInfo(0, 3, "127.0.0.1", (0,)), TIMEOUT)


def test_the_error_is_where_torchrun_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        raise ValueError("odd")
    except ValueError as error:
        record_error(error)  # without torchrun, nothing
        monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
        record_error(error)
    found = json.loads((tmp_path / "error.json").read_text())["message"]
    assert "ValueError: odd" in found["message"]
    assert "test_torchrun.py" in found["extraInfo"]["py_callstack"]


def test_whether_a_restart_may_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not may_restart()
    for restarts, expected in (("0", False), ("3", True)):
        monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", restarts)
        assert may_restart() is expected
