"""This machine, as far as it can be known without torch."""

import ctypes
import itertools
import os
import platform
from functools import cache
from pathlib import Path


def usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def memory_gb() -> float:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9


def user_cache() -> Path:
    """Where this user's programs keep what can be made again; RuntimeError where nobody knows the home."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "diffussm"


def gpus() -> list[str]:
    """NVIDIA GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    there = [str(number) for number, _ in enumerate(Path("/proc/driver/nvidia/gpus").glob("*"))]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None or not there:
        return there
    return list(itertools.takewhile(lambda name: name not in ("", "-1"), visible.split(",")))  # as CUDA reads it


@cache
def place() -> str:
    """Where a process number means something: host, boot, and (in containers) the space of process numbers."""
    parts = [platform.node()]
    for path, read in (("/proc/sys/kernel/random/boot_id", _text), ("/proc/self/ns/pid", os.readlink)):
        try:
            parts.append(read(path))
        except OSError:
            continue
    return "/".join(parts)


def process_start(pid: int) -> str | None:
    """When process `pid` started, in the kernel's own count, which tells it from a later one of that number; None if
    there is none, or it is dead and waits to be reaped. Where the system does not tell, "" for one that is there."""
    if Path("/proc/self/stat").exists():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" else fields[19]
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return ""


def _text(path: str) -> str:
    return Path(path).read_text().strip()


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
