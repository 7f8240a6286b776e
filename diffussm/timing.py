"""The one timer: benchmarks, ratios and calibration all measure through it.

A CUDA call returns before its work is done, so the clock waits for the device; once per reading, not once per call
inside what is timed. Ratios are measured in turns (A B A B), so that a change of the machine's speed meets both.
"""

import gc
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike

from diffussm.provenance import describe


class Timing(NamedTuple):
    """Seconds: median and quartiles of n rounds."""

    median: float
    q1: float
    q3: float
    n: int


def clock() -> float:
    """Seconds of a monotonic clock, read after the GPU, if any, has finished all work that was queued."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


def in_turns(functions: Mapping[str, Callable[[], Any]], rounds: int, warmup: int = 2) -> dict[str, list[float]]:
    """Seconds of every function in each of `rounds` rounds, all functions in turn within a round."""
    for _ in range(warmup):
        for function in functions.values():
            function()
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    collecting = gc.isenabled()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, function in functions.items():
                began = clock()
                function()
                seconds[name].append(clock() - began)
    finally:
        if collecting:
            gc.enable()
    return seconds


def summarise(seconds: ArrayLike) -> Timing:
    samples = np.asarray(seconds, dtype=float)
    q1, median, q3 = np.quantile(samples, [0.25, 0.5, 0.75])
    return Timing(float(median), float(q1), float(q3), len(samples))


def ratio(seconds: Mapping[str, list[float]], numerator: str, denominator: str) -> Timing:
    """Median and quartiles of the ratio within each round."""
    return summarise(np.asarray(seconds[numerator]) / np.asarray(seconds[denominator]))


def machine_card() -> dict[str, Any]:
    """What a timing means nothing without: machine, threads, versions."""
    about = describe()
    return {
        **about["machine"],
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": about["python"],
        "commit": about["commit"],
        "dirty": about["dirty"],
    }
