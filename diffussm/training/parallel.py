"""Data parallelism: each process computes its micro-batches, and the averaged gradients are those of the batch.

A batch is split into as many parts as processes started the run, and each part into micro-batches of at most
`training.micro_batch` images. A process computes its micro-batches in turn (gradient accumulation), so that it stores
the activations of only one at a time. If fewer processes continue the run, each computes several parts.
"""

from contextlib import AbstractContextManager, nullcontext
from inspect import signature
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from diffussm.distributed.group import ProcessGroup, gradient_group, split_range
from diffussm.errors import UserError

BROADCAST_BUFFERS = ("forward_sync_buffers", "broadcast_buffers")  # DDP's parameter: its new name, its old name
GPU_BUCKET_MB = 100  # about the gradients of a block of DiffuSSM-XL
MicroBatch = tuple[int, int]  # first sample of the batch, number of samples


def local_micro_batches(batch: int, processes: ProcessGroup, count: int, largest: int = 0) -> list[MicroBatch]:
    """Return this rank's micro-batches of a batch split into `count` parts, or into one per process if those are more.

    Parts of more than `largest` images are split into as few as possible of nearly equal size; 0: none are.
    """
    if batch < processes.world_size:
        raise UserError(
            f"training.batch = {batch}: smaller than the number of processes, {processes.world_size}; use fewer "
            "processes or a larger batch"
        )
    count = min(max(count, processes.world_size), batch)
    first, length = processes.local_range(count)
    parts = [split_range(batch, count, number) for number in range(first, first + length)]
    return [micro_batch for part in parts for micro_batch in _split(part, largest)]


def _split(part: MicroBatch, largest: int) -> list[MicroBatch]:
    start, size = part
    pieces = -(-size // (largest or size))
    ranges = (split_range(size, pieces, number) for number in range(pieces))
    return [(start + offset, length) for offset, length in ranges]


def wrap_ddp(model: nn.Module, processes: ProcessGroup) -> nn.Module:
    """Return the model, wrapped for several processes such that a backward pass averages gradients over them.

    Gradients are views of buckets, which thus take the memory of the gradients once; a bucket is averaged while the
    backward pass goes on. On GPUs buckets are larger than DDP's 25 MB, as smaller messages do not reach the bandwidth
    of NCCL; the last one, which no computation hides, still takes about a millisecond between the GPUs of a node.
    DDP's `static_graph` is not needed: recomputation is the non-reentrant one, and every parameter gets a gradient.
    """
    if processes.world_size == 1:
        return model
    known = signature(DistributedDataParallel).parameters
    keep_buffers: Any = {next(name for name in BROADCAST_BUFFERS if name in known): False}
    device = next(model.parameters()).device.type
    return DistributedDataParallel(
        model,
        process_group=gradient_group(device),
        gradient_as_bucket_view=True,
        bucket_cap_mb=GPU_BUCKET_MB if device == "cuda" else None,
        **keep_buffers,
    )


def no_sync(network: nn.Module) -> AbstractContextManager[None]:
    """Return DDP's `no_sync`: gradients add up in each process until a backward pass outside averages them."""
    return network.no_sync() if isinstance(network, DistributedDataParallel) else nullcontext()
