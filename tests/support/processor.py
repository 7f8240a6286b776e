"""Processor time, for bounds that hold whatever else runs on the machine."""

import os
import resource
from collections.abc import Callable
from pathlib import Path


def processor_seconds(work: Callable[[], object]) -> float:
    """What `work` takes of the processors, in this process and in the processes that it starts and waits for."""
    began = _used()
    work()
    return _used() - began


def processor_seconds_of(pid: int) -> float:
    """What a process, and those that it waited for, have taken until now; 0 once it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def _used() -> float:
    used = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)
