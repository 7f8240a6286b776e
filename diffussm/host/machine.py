"""Facts about this machine that need no torch: cores, memory, GPUs, processes and the user's cache folder."""

import ctypes
import itertools
import os
import platform
import re
from functools import cache
from pathlib import Path

NVIDIA_GPUS = Path("/proc/driver/nvidia/gpus")  # a folder for each, named by its place on the PCI bus


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """Return the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def memory_gb() -> float:
    """Return the size of the main memory in units of 10^9 bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9


def user_cache() -> Path:
    """Return the user's cache folder for this package; RuntimeError if the home directory is unknown."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "diffussm"


def gpus() -> list[str]:
    """Return the NVIDIA GPUs that this process may use, named as in CUDA_VISIBLE_DEVICES."""
    installed = [str(number) for number, _ in enumerate(NVIDIA_GPUS.glob("*"))]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None or not installed:
        return installed
    names = (name.strip() for name in visible.split(","))
    return list(itertools.takewhile(lambda name: name not in ("", "-1"), names))  # as CUDA parses it


def gpu_number(name: str) -> str:
    """Return the number of a GPU that is named by its UUID, or by the beginning of that; any other name as it is.

    It is CUDA's number where all GPUs are alike, which are numbered by their place on the PCI bus then.
    """
    if name.startswith("GPU-"):
        for number, gpu in enumerate(sorted(NVIDIA_GPUS.glob("*/information"))):
            if re.search(rf"\s{re.escape(name)}", gpu.read_text()):
                return str(number)
    return name


@cache
def pid_scope() -> str:
    """Return the scope in which a process id is unique: host, boot, and PID namespace (of a container)."""
    parts = [platform.node()]
    for path, read in (("/proc/sys/kernel/random/boot_id", _text), ("/proc/self/ns/pid", os.readlink)):
        try:
            parts.append(read(path))
        except OSError:
            continue
    return "/".join(parts)


def process_start(pid: int) -> str | None:
    """Return the start time of process `pid`, which distinguishes it from a later process with the same id.

    It is in clock ticks since boot, or "" on systems without /proc. None if there is no such process, or only a zombie.
    """
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
    """Make glibc keep freed memory instead of returning it to the kernel; do nothing with another C library.

    By default glibc returns every large block to the kernel, which clears it page by page when it is allocated again.
    Sampling, which allocates activations at every step, would spend a third of its time on this.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mmap_threshold, trim_threshold, maximum = -3, -1, 2**31 - 1  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD of mallopt(3)
    allocator = ctypes.CDLL(None)
    allocator.mallopt(mmap_threshold, maximum)
    allocator.mallopt(trim_threshold, maximum)
