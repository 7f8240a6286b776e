"""The memory of a call at its peak."""

import ctypes
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

SAMPLING_SECONDS = 0.001

_STATUS, _CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # what proc(5) names for VmHWM


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
