"""The clock, and functions timed in turns."""

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch


def synchronised_time() -> float:
    """Return the seconds of a monotonic clock, read after the GPU, if one is in use, has finished all queued work."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


def seconds_of(function: Callable[[], Any]) -> float:
    """Return the seconds that one call takes."""
    started = synchronised_time()
    function()
    return synchronised_time() - started


def time_interleaved(
    functions: Mapping[str, Callable[[], Any]], rounds: int, warmup: int = 2
) -> dict[str, list[float]]:
    """Return the seconds of each function in each of `rounds` rounds; the order is reversed after every round."""
    for _ in range(warmup):
        for function in functions.values():
            function()
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    order = list(functions.items())
    with _no_collection():
        for _ in range(rounds):
            for name, function in order:
                seconds[name].append(seconds_of(function))
            order.reverse()
    return seconds


@contextmanager
def _no_collection() -> Iterator[None]:
    """Disable garbage collection, which would be counted in whichever round it happens."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
