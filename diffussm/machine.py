"""This machine, as far as it can be known without torch."""

import ctypes
import os
import platform
from pathlib import Path


def usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def keep_freed_memory() -> None:
    """Let this process keep what it frees, where the C library is glibc; elsewhere do nothing.

    By default glibc returns every large block to the kernel, which clears it page by page when it is taken again:
    a third of the time of sampling, for activations that come and go at each step.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mmap_threshold, trim_threshold, most = -3, -1, 2**31 - 1  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD of mallopt(3)
    allocator = ctypes.CDLL(None)
    allocator.mallopt(mmap_threshold, most)
    allocator.mallopt(trim_threshold, most)
