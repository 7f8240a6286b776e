"""The clock, and functions timed by it in turns."""

import gc
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from typing import Any

import torch


def clock() -> float:
    """Seconds of a monotonic clock, read after the GPU, if any, has finished all work that was queued."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


def seconds_of(function: Callable[[], Any]) -> float:
    """Seconds of one call."""
    began = clock()
    function()
    return clock() - began


def in_turns(functions: Mapping[str, Callable[[], Any]], rounds: int, warmup: int = 2) -> dict[str, list[float]]:
    """Seconds of every function in each of `rounds` rounds, all functions in turn within a round, forwards in one and
    backwards in the next."""
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
def _no_collection() -> Any:
    """Garbage is not collected meanwhile: a collection belongs to no round."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
