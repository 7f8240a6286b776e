"""Processes that share a task, forked from a server that has imported torch already."""

import multiprocessing
import os
import socket
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from diffussm.distributed.group import init_from_environment

FORKS = multiprocessing.get_context("forkserver")


def start_ranks(count: int, work: Callable[..., None], *arguments: Any) -> list[BaseProcess]:
    """Start a process for each rank, which does `work(processes, *arguments)`."""
    port = free_port()
    ranks = [FORKS.Process(target=_one, args=(rank, count, port, work, arguments)) for rank in range(count)]
    for rank in ranks:
        rank.start()
    return ranks


def join_ranks(ranks: list[BaseProcess]) -> list[int | None]:
    """Wait for the processes; return their exit codes."""
    for rank in ranks:
        rank.join(60)
    return [rank.exitcode for rank in ranks]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def _one(rank: int, count: int, port: int, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    place = {"RANK": rank, "WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in place.items()})
    torch.set_num_threads(1)
    with init_from_environment() as processes:
        work(processes, *arguments)


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(word) for word in found.read_text().split()] if found.exists() else []
