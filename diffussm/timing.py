"""The one timer: benchmarks, ratios and calibration all measure through it.

A CUDA call returns before its work is done, so the clock waits for the device; once per reading, not once per call
inside what is timed. Ratios are measured in turns (A B, B A, ...), so that a change of the machine's speed meets both,
and so does what one leaves in the caches. Medians stand with their 95 % interval by order statistics, for times of any
distribution, but of rounds that are independent: those of one session are so only as far as the machine is steady.
"""

import ctypes
import gc
import math
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike

from diffussm.host.provenance import describe

FEWEST = 6  # rounds that have a 95 % interval of the median
CONFIDENCE = 0.95
SAMPLING_SECONDS = 0.001

_STATUS, _CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # what proc(5) names for VmHWM
_CPUINFO = Path("/proc/cpuinfo")
_FASTEST_KHZ = Path("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq")
_SMI_FIELDS = ("clocks.sm", "clocks.max.sm", "temperature.gpu", "clocks_throttle_reasons.active")


class Timing(NamedTuple):
    """Median of n rounds and its 95 % interval, in seconds or, of ratios, in 1."""

    median: float
    low: float
    high: float
    n: int


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


def summarise(samples: ArrayLike) -> Timing:
    """ValueError for fewer than six samples, whose median has no 95 % interval."""
    ordered = np.sort(np.asarray(samples, dtype=float))
    rank = _rank(len(ordered))
    return Timing(float(np.median(ordered)), float(ordered[rank]), float(ordered[-1 - rank]), len(ordered))


def ratio(seconds: Mapping[str, Sequence[float]], numerator: str, denominator: str) -> Timing:
    """Of the ratios within each round."""
    return summarise(np.asarray(seconds[numerator]) / np.asarray(seconds[denominator]))


def peak_memory(function: Callable[[], Any]) -> int | None:
    """Bytes of one call at its peak, above what stood before it.

    Of the GPU's allocator where CUDA is in use; else resident memory, by the kernel's own mark of the peak or, where
    that cannot be set back, seen every millisecond; None where the system tells neither. Resident memory misses what is
    served from holes of the heap: of many small pieces it can read some 20 % low.
    """
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    if not _STATUS.exists():
        return None
    _give_back_freed_memory()  # or the call would live on what earlier ones left
    before = _resident("VmRSS")
    try:
        _CLEAR_REFS.write_text(_RESET_PEAK)
    except OSError:
        return _sampled_peak(function) - before
    function()
    return max(0, _resident("VmHWM") - before)


def clocks() -> dict[str, Any]:
    """What the clocks stand at: MHz of each core and at most, of the GPU its multiprocessors' MHz, degrees and why it
    is held back; None where the system does not tell."""
    gpu = _smi()
    return {
        "cpu_mhz": _core_mhz(),
        "cpu_max_mhz": int(_FASTEST_KHZ.read_text()) / 1000 if _FASTEST_KHZ.exists() else None,
        "gpu_mhz": gpu and gpu[0],
        "gpu_max_mhz": gpu and gpu[1],
        "gpu_celsius": gpu and gpu[2],
        "gpu_throttle_reasons": gpu and gpu[3],
    }


def machine_card() -> dict[str, Any]:
    """What a timing means nothing without: machine, clocks, threads, versions."""
    about = describe()
    return {
        **about["machine"],
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if about["machine"]["gpu"] else None,
        "clocks": clocks(),
        "python": about["python"],
        "commit": about["commit"],
        "dirty": about["dirty"],
    }


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


def _rank(n: int) -> int:
    """The greatest k such that samples k and n - 1 - k, counted from 0 in order, hold the median at 95 %: how many of
    n samples lie below it is binomial."""
    if n < FEWEST:
        raise ValueError(f"{n} rounds: the median's 95 % interval needs {FEWEST}")
    rank, below = 0, 1.0
    while 2 * (below + math.comb(n, rank + 1)) <= (1 - CONFIDENCE) * 2**n:
        rank += 1
        below += math.comb(n, rank)
    return rank


def _resident(field: str) -> int:
    """Bytes of VmRSS or VmHWM of this process."""
    lines = _STATUS.read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def _sampled_peak(function: Callable[[], Any]) -> int:
    """Resident bytes at most while `function` runs, by a thread that looks."""
    seen, done = [_resident("VmRSS")], threading.Event()

    def look() -> None:
        while not done.wait(SAMPLING_SECONDS):
            seen.append(_resident("VmRSS"))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        function()
        seen.append(_resident("VmRSS"))
    finally:
        done.set()
        watcher.join()
    return max(seen)


def _give_back_freed_memory() -> None:
    """To the kernel, where the C library knows how."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)


def _core_mhz() -> list[float] | None:
    if not _CPUINFO.exists():
        return None
    lines = _CPUINFO.read_text().splitlines()
    return [float(line.split(":")[1]) for line in lines if line.startswith("cpu MHz")] or None


def _smi() -> list[float | str | None] | None:
    """Of the GPU in use: MHz, most MHz, degrees Celsius, why it is held back (a bit mask in hexadecimal); None for what
    is not told."""
    if not torch.cuda.is_available():
        return None
    query = ["nvidia-smi", f"--query-gpu={','.join(_SMI_FIELDS)}", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run([*query, *_gpu_in_use()], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    values = [value.strip() for value in told.partition("\n")[0].split(",")]
    if len(values) != len(_SMI_FIELDS):
        return None
    *numbers, reasons = values
    return [*(_number(value) for value in numbers), reasons if reasons.startswith("0x") else None]


def _gpu_in_use() -> list[str]:
    """Options of nvidia-smi; none where torch does not tell which GPU it is."""
    uuid = getattr(torch.cuda.get_device_properties(torch.cuda.current_device()), "uuid", None)
    return ["-i", f"GPU-{uuid}"] if uuid else []


def _number(told: str) -> float | None:
    try:
        return float(told)
    except ValueError:
        return None
