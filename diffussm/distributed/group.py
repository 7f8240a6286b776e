"""Collective operations over the processes that share a piece of work. A single process needs no torch for them."""

import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from diffussm.distributed.launch_environment import local_rank, read_launch_info
from diffussm.distributed.peers import watch_peers
from diffussm.distributed.rendezvous import open_store
from diffussm.distributed.torchrun import open_torchrun_store

Item = TypeVar("Item")

# How long a process waits in a collective operation: on the CPU (gloo), for what rank zero does alone, as measuring
# images; with the gradients on GPUs (NCCL), for a checkpoint at most. A lost process is noticed before: see `peers`.
TIMEOUT = timedelta(days=2)
GRADIENT_TIMEOUT = timedelta(minutes=30)


class LostProcess(RuntimeError):
    """A collective failed, as another process of the group has ended."""


@dataclass(frozen=True)
class ProcessGroup:
    """A group of `world_size` processes as process `rank` sees it. Its collectives run on the CPU."""

    rank: int = 0
    world_size: int = 1

    @property
    def is_rank_zero(self) -> bool:
        return self.rank == 0

    def strided_shard(self, items: Sequence[Item]) -> Sequence[Item]:
        """Return every `world_size`-th item, beginning with item `rank`."""
        return items[self.rank :: self.world_size]

    def local_range(self, size: int) -> tuple[int, int]:
        """Return start and length of this rank's contiguous range of `size` items."""
        return split_range(size, self.world_size, self.rank)

    def broadcast(self, value: Any) -> Any:
        """Return rank zero's value on every rank; the others wait for it."""
        return value if self.world_size == 1 else self._broadcast(value, source=0)

    def on_rank_zero(self, make: Callable[[], Item]) -> Item:
        """Call `make` on rank zero alone; return its result, or raise its exception, on every rank."""
        result: Any = None
        error: Exception | None = None
        if self.is_rank_zero:
            try:
                result = make()
            except Exception as raised:
                error = _portable(raised) if self.world_size > 1 else raised
        result, error = self.broadcast((result, error))
        if error is not None:
            raise error
        return result

    def gather(self, value: Item) -> list[Item]:
        """Return the values of all ranks, in their order, on rank zero; an empty list on the others."""
        if self.world_size == 1:
            return [value]
        from torch import distributed

        values: list[Any] | None = [None] * self.world_size if self.is_rank_zero else None
        with _connected():
            distributed.gather_object(value, values)
        return values or []

    def first_nonempty(self, value: Item) -> Item:
        """Return on every rank the first value, by rank, that is not empty; an empty one if all are."""
        if self.world_size == 1:
            return value
        (highest,) = self.all_reduce_max([self.world_size - self.rank if value else 0])
        return self._broadcast(value, source=self.world_size - int(highest)) if highest else value

    @contextmanager
    def join(self) -> Iterator[None]:
        """Wait at the end of the block for every rank; what is raised on one is then raised on all.

        An exception that comes from another rank has that rank as its attribute `rank`.
        """
        raised: Exception | None = None
        try:
            yield
        except LostProcess:
            raise
        except Exception as error:
            raised = error
        if self.world_size > 1:
            found = self.first_nonempty(raised and (self.rank, _portable(raised)))
            if found and found[0] != self.rank:
                raised = found[1]
                raised.rank = found[0]  # type: ignore[attr-defined]
        if raised:
            raise raised

    def all_reduce_sum(self, values: Sequence[float]) -> Sequence[float]:
        """Return the sum of each of the values over all processes."""
        if self.world_size == 1:
            return values
        from torch import distributed

        return self._all_reduce(values, distributed.ReduceOp.SUM)

    def all_reduce_max(self, values: Sequence[float]) -> Sequence[float]:
        """Return the largest of each of the values over all processes."""
        if self.world_size == 1:
            return values
        from torch import distributed

        return self._all_reduce(values, distributed.ReduceOp.MAX)

    def barrier(self) -> None:
        """Wait until every process has called this."""
        self.all_reduce_sum([0])

    @staticmethod
    def _broadcast(value: Any, source: int) -> Any:
        from torch import distributed

        values = [value]
        with _connected():
            distributed.broadcast_object_list(values, src=source)
        return values[0]

    @staticmethod
    def _all_reduce(values: Sequence[float], operation: Any) -> list[float]:
        import torch

        reduced = torch.tensor(values, dtype=torch.float64)
        with _connected():
            torch.distributed.all_reduce(reduced, operation)
        return reduced.tolist()


def _portable(error: Exception) -> Exception:
    """Return the exception, or its words in another one if it cannot be pickled."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


@contextmanager
def _connected() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # of gloo, as "Connection closed by peer"
        raise LostProcess(str(error)) from error


SINGLE_PROCESS = ProcessGroup()


def split_range(size: int, parts: int, index: int) -> tuple[int, int]:
    """Return start and length of part `index` of `size` items in contiguous parts; low ones take the remainder."""
    length, remainder = divmod(size, parts)
    return index * length + min(index, remainder), length + (index < remainder)


@contextmanager
def init_from_environment() -> Iterator[ProcessGroup]:
    """Yield the group of the processes that torchrun or srun started, initialised by `init_process_group`; a group of
    one if neither started this process.

    The group is not destroyed after an error: that would wait for the other processes, which may wait for this one.
    """
    launch = read_launch_info(os.environ)
    if launch is None:
        yield SINGLE_PROCESS
        return
    import torch
    from torch import distributed

    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    store = open_store(launch, TIMEOUT) if launch.step_id else open_torchrun_store(launch, TIMEOUT)
    distributed.init_process_group(
        backend, store=store, rank=launch.rank, world_size=launch.world_size, timeout=TIMEOUT
    )
    group = ProcessGroup(launch.rank, launch.world_size)
    with watch_peers(group, launch.address):
        yield group
    distributed.destroy_process_group()


def gradient_group(device: str) -> Any:
    """Return torch's group to average gradients in on a kind of device: one with a timeout of its own for GPUs."""
    from torch import distributed

    return distributed.new_group(timeout=GRADIENT_TIMEOUT, backend="nccl") if device == "cuda" else None


def select_device() -> str:
    """Return the GPU of this process, or the CPU if there is none."""
    import torch

    return select_device_of_kind("cuda" if torch.cuda.is_available() else "cpu")


def select_device_of_kind(kind: str) -> str:
    """Return this process' device of a kind (cuda | cpu) and make it current. It may see one GPU or all."""
    if kind == "cpu":
        return kind
    import torch

    device = f"cuda:{local_rank(os.environ) % max(torch.cuda.device_count(), 1)}"
    torch.cuda.set_device(device)
    return device
