"""One process, or one of many that share a piece of work. Alone, it needs no torch."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from diffussm.distributed.launch_environment import Placement, local_rank, placement
from diffussm.distributed.rendezvous import store_of

Item = TypeVar("Item")

PATIENCE = timedelta(days=2)  # of a process that is done, with the others


@dataclass(frozen=True)
class Processes:
    """Process `rank` of `count`. What many must do together goes by the CPU, whatever they compute on."""

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """This one's part of the items."""
        return items[self.rank :: self.count]

    def part(self, size: int) -> tuple[int, int]:
        """First and number of this one's neighbouring items of `size`; of parts that differ the larger come first."""
        least, more = divmod(size, self.count)
        return self.rank * least + min(self.rank, more), least + (self.rank < more)

    def from_first(self, value: Any) -> Any:
        """The first one's value, in all; they wait for it."""
        return value if self.count == 1 else self._told(value, by=0)

    def of_first(self, make: Callable[[], Item]) -> Item:
        """What `make` gives in the first one, in all; what it raises there is raised in all."""
        found: Any = None
        error: Exception | None = None
        if self.is_first:
            try:
                found = make()
            except Exception as raised:
                error = raised
        found, error = self.from_first((found, error))
        if error is not None:
            raise error
        return found

    def agreed(self, said: Item) -> Item:
        """What the lowest of those says whose word is not empty, in all."""
        if self.count == 1:
            return said
        from torch import distributed

        highest = self._reduced([self.count - self.rank if said else 0], distributed.ReduceOp.MAX)[0]
        return self._told(said, by=self.count - int(highest)) if highest else said

    def sums(self, values: Sequence[float]) -> Sequence[float]:
        """Of each of the values, over all processes."""
        if self.count == 1:
            return values
        from torch import distributed

        return self._reduced(values, distributed.ReduceOp.SUM)

    def wait(self) -> None:
        """For all to be here."""
        self.sums([0])

    @staticmethod
    def _told(value: Any, by: int) -> Any:
        from torch import distributed

        values = [value]
        distributed.broadcast_object_list(values, src=by)
        return values[0]

    @staticmethod
    def _reduced(values: Sequence[float], operation: Any) -> list[float]:
        import torch

        reduced = torch.tensor(values, dtype=torch.float64)
        torch.distributed.all_reduce(reduced, operation)
        return reduced.tolist()


ALONE = Processes()


@contextmanager
def of_environment() -> Iterator[Processes]:
    """The processes that torchrun or srun started, this one among them; alone without them.

    Left by an error, it leaves the others alone: they may wait for this one, and so might an orderly end for them.
    """
    place = placement(os.environ)
    if place is None:
        yield ALONE
        return
    import torch
    from torch import distributed

    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    distributed.init_process_group(
        backend, **_meeting(place), rank=place.rank, world_size=place.count, timeout=PATIENCE
    )
    yield Processes(place.rank, place.count)
    distributed.destroy_process_group()


def _meeting(place: Placement) -> dict[str, Any]:
    """Where they meet, as torch takes it."""
    if place.step:
        return {"store": store_of(place, PATIENCE)}
    address = f"[{place.address}]" if ":" in place.address else place.address
    return {"init_method": f"tcp://{address}:{place.ports[0]}"}


def device_here() -> str:
    """The GPU of this process, or the CPU."""
    import torch

    return device_of("cuda" if torch.cuda.is_available() else "cpu")


def device_of(kind: str) -> str:
    """This process' own device of a kind (cuda | cpu). Of the GPUs that it sees, which may be one, it takes its own."""
    if kind == "cpu":
        return kind
    import torch

    device = f"cuda:{local_rank(os.environ) % max(torch.cuda.device_count(), 1)}"
    torch.cuda.set_device(device)
    return device
