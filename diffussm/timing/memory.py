"""The peak memory of a call, on the GPU or in main memory."""

import ctypes
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

SAMPLING_SECONDS = 0.001

_STATUS, _CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # resets VmHWM (proc(5))


def peak_memory(function: Callable[[], Any]) -> int | None:
    """Return the peak memory of one call in bytes, above what was allocated before it.

    If CUDA is in use it is that of the GPU's allocator. Otherwise it is resident memory: the kernel's peak counter or,
    if that cannot be reset, the maximum of samples taken every millisecond; None on systems without /proc. Resident
    memory misses allocations served from free space in the heap: with many small blocks it can be some 20 % low.
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
    _return_freed_memory()  # otherwise the call would reuse what earlier ones freed
    before = _resident("VmRSS")
    try:
        _CLEAR_REFS.write_text(_RESET_PEAK)
    except OSError:
        return _sampled_peak(function) - before
    function()
    return max(0, _resident("VmHWM") - before)


def _resident(field: str) -> int:
    """Return VmRSS or VmHWM of this process in bytes."""
    lines = _STATUS.read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def _sampled_peak(function: Callable[[], Any]) -> int:
    """Return the largest number of resident bytes while `function` runs, sampled by a thread."""
    samples, done = [_resident("VmRSS")], threading.Event()

    def sample() -> None:
        while not done.wait(SAMPLING_SECONDS):
            samples.append(_resident("VmRSS"))

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        function()
        samples.append(_resident("VmRSS"))
    finally:
        done.set()
        sampler.join()
    return max(samples)


def _return_freed_memory() -> None:
    """Return freed memory to the kernel, if the C library supports it."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)
