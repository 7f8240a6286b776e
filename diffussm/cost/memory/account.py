"""The account: what a training takes on one device, part by part. No torch.

Weights, moments and their average are there all the time, in float32. With several processes so are the buckets of
DistributedDataParallel, in which gradients are averaged. Gradients by themselves are there where one process makes
them, or where a batch is computed in micro-batches: beside the activations of the next one. (A single process frees
activations as it makes gradients, but allocators rarely give one's memory to the other.)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from diffussm.config import Checkpointing, Config
from diffussm.cost.closed_form import parameters, stream_length
from diffussm.cost.memory.activations import Kept, kept
from diffussm.cost.memory.precision import FLOAT32, Bytes, bytes_of
from diffussm.cost.memory.s4d import made_in_backward
from diffussm.ssm.backends import PORTABLE, backend_for_cost

TEMPORARIES = 4  # tensors (B, L, D) in float32 that are there beside what is kept, at the most


class Row(NamedTuple):
    """A part of which there are `times`, of `bytes` each."""

    part: str
    times: int
    bytes: int

    @property
    def total(self) -> int:
        return self.times * self.bytes


@dataclass(frozen=True)
class Account:
    """The memory of a training on one device. `images` are computed at once, `micro_batches` times in a step."""

    images: int
    micro_batches: int
    state: tuple[Row, ...]
    gradients: Row
    activations: tuple[Row, ...]
    temporaries: Row

    @property
    def rows(self) -> tuple[Row, ...]:
        return *self.state, self.gradients, *self.activations, self.temporaries

    @property
    def peak(self) -> int:
        """Bytes of all parts."""
        return total(self.rows)


def account(
    config: Config,
    processes: int = 1,
    micro_batch: int | None = None,
    checkpointing: Checkpointing | None = None,
    backend: str | None = None,
    device: str = "cuda",
) -> Account | None:
    """Return the account of one of `processes`; None if an external mixer does not say what it keeps.

    `micro_batch` is the most images that it computes at once; 0: all of its part of the batch. That, `checkpointing`
    and `backend` are those of the config if None. `device` is `cuda` or `cpu`.
    """
    training = config.training
    micro_batch = training.micro_batch if micro_batch is None else micro_batch
    checkpointing = checkpointing or training.checkpointing
    part = -(-training.batch // processes)
    micro_batches = -(-part // (micro_batch or part))
    images = -(-part // micro_batches)
    name = backend_for_cost(backend or training.backend)
    name = PORTABLE if (device, name) == ("cuda", "compiled") else name  # which computes on CPUs only
    size = bytes_of(training.precision, device)
    parts = kept(config, size, name)
    if parts is None:
        return None
    weights = FLOAT32 * parameters(config)
    buckets = [Row("buckets", 1, weights)] if processes > 1 else []
    separate = micro_batches > 1 or processes == 1  # else each gradient is copied into its bucket at once
    return Account(
        images,
        micro_batches,
        (Row("weights", 1, weights), Row("moments", 2, weights), Row("EMA", 1, weights), *buckets),
        Row("gradients", 1, weights if separate else 0),
        _checkpointed(config, parts, images) if checkpointing == "block" else _rows(parts, images),
        Row("temporaries", 1, _temporaries(config, images, name, size)),
    )


def _rows(parts: Sequence[Kept], images: int) -> tuple[Row, ...]:
    return tuple(Row(part.part, part.times, part.of(images)) for part in parts)


def _checkpointed(config: Config, parts: Sequence[Kept], images: int) -> tuple[Row, ...]:
    """Return the activations if each block keeps its input alone and is computed again in the backward pass.

    In the forward pass autocast holds the copies of all weights.
    """
    m = config.model
    block, rest = [part for part in parts if part.in_block], [part for part in parts if not part.in_block]
    stream = images * FLOAT32 * stream_length(m) * m.width
    again = total(_rows(block, images)) // m.depth - stream
    copies = sum(part.times * part.copies for part in block)
    first = next(number for number, part in enumerate(parts) if part.in_block)
    return (
        *_rows(rest[:first], images),
        Row("block (its input)", m.depth, stream),
        Row("block (one, computed again)", 1, max(again, copies)),
        *_rows(rest[first:], images),
    )


def _temporaries(config: Config, images: int, backend: str, size: Bytes) -> int:
    m = config.model
    has_s4d = m.kind == "diffussm" and m.mixer == "s4d"
    s4d = made_in_backward(backend, m.width, m.state, m.length, images, size) if has_s4d else 0
    return TEMPORARIES * FLOAT32 * images * m.length * m.width + s4d


def total(rows: Sequence[Row]) -> int:
    """Return the bytes of all rows."""
    return sum(row.total for row in rows)
