"""One process, or one of many that share a piece of work as torchrun starts them. Alone, it needs no torch."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

Item = TypeVar("Item")

PATIENCE = timedelta(days=2)  # of a process that is done, with the others


@dataclass(frozen=True)
class Processes:
    """Process `rank` of `count`."""

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """This one's part of the items."""
        return items[self.rank :: self.count]

    def from_first(self, value: Any) -> Any:
        """The first one's value, in all; they wait for it."""
        if self.count == 1:
            return value
        from torch import distributed

        values = [value]
        distributed.broadcast_object_list(values, src=0)
        return values[0]

    def wait(self) -> None:
        """For all to be here."""
        if self.count > 1:
            from torch import distributed

            distributed.barrier()


ALONE = Processes()


@contextmanager
def of_torchrun() -> Iterator[Processes]:
    """The processes that torchrun started, this one among them; alone without it."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield ALONE
        return
    from torch import distributed

    distributed.init_process_group("gloo", timeout=PATIENCE)
    try:
        yield Processes(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()


def device_here() -> str:
    """The GPU of this process, or the CPU."""
    import torch

    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"
