"""The process that owns a folder (`owner-<attempt>.json`) or uses a copy of the code."""

import os
from typing import ClassVar

from pydantic import ConfigDict, Field

from diffussm.host.machine import pid_scope, process_start
from diffussm.store.reading import StoredModel


class Process(StoredModel):
    """A process, not to be confused with a later one with the same pid. Fields of later versions are kept."""

    model_config = ConfigDict(extra="allow", populate_by_name=True)

    repair: ClassVar[str] = "delete it if no process works here any more"

    pid_scope: str = Field(alias="place", description="host, boot and PID namespace, within which the pid is unique")
    pid: int = Field(gt=0)
    started: str | None = Field(description='its start time in clock ticks of the kernel; "" on systems without /proc')

    @property
    def host(self) -> str:
        return self.pid_scope.partition("/")[0]

    @property
    def is_gone(self) -> bool:
        """Whether it ran on this host and has ended; a process of another host may still run."""
        return self.pid_scope == pid_scope() and process_start(self.pid) != self.started


class Owner(Process):
    """The process that owns a folder."""

    job: str = Field("", description="the scheduler's id of the job that the process belongs to")
    gpus: tuple[str, ...] = Field((), description="those that a launch gave it, named as in CUDA_VISIBLE_DEVICES")
    claimed: str = Field("", description="when, UTC in ISO 8601; empty: not stated, as versions of before did not")

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}{f', job {self.job}' if self.job else ''}"


def this_process() -> Process:
    """Return the process that runs this."""
    return Process(pid_scope=pid_scope(), pid=os.getpid(), started=process_start(os.getpid()))
