"""One training step by many processes: what each takes of the batch, and gradients that are those of the whole.

The batch is cut into shares, as many as processes began the run. Where fewer go on with it, each takes several, one
after the other, so that it never holds more than a share's activations.
"""

from contextlib import AbstractContextManager, nullcontext
from inspect import signature
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from diffussm.distributed.group import ProcessGroup
from diffussm.errors import UserError

_OF_BUFFERS = ("forward_sync_buffers", "broadcast_buffers")  # whether all get those of the first: new name, old name
Share = tuple[int, int]  # first sample of the batch, and how many


def shares_of(batch: int, processes: ProcessGroup, shares: int) -> list[Share]:
    """This process' shares of a batch in `shares`, or in one for each process if those are more."""
    if batch < processes.world_size:
        raise UserError(f"training.batch = {batch}: has no sample for each of the {processes.world_size} processes")
    shares = min(max(shares, processes.world_size), batch)
    first, count = processes.local_range(shares)
    return [ProcessGroup(number, shares).local_range(batch) for number in range(first, first + count)]


def averaged(model: nn.Module, processes: ProcessGroup) -> nn.Module:
    """The model, such that gradients of a backward pass are means over the processes."""
    if processes.world_size == 1:
        return model
    known = signature(DistributedDataParallel).parameters
    keep_buffers: Any = {next(name for name in _OF_BUFFERS if name in known): False}
    return DistributedDataParallel(model, gradient_as_bucket_view=True, **keep_buffers)


def apart(network: nn.Module) -> AbstractContextManager[None]:
    """Gradients inside add up in each process; those of the first backward pass after it are averaged with them."""
    return network.no_sync() if isinstance(network, DistributedDataParallel) else nullcontext()
