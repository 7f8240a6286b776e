"""Who works: `owner-<attempt>.json` of a folder, and the mark of a launch beside its copy of the code."""

import os
from typing import ClassVar

from pydantic import ConfigDict, Field

from diffussm.host.machine import place, process_start
from diffussm.store.reading import StoredModel


class Process(StoredModel):
    """A process, such that another of the same number is not taken for it. Fields of later versions are kept."""

    model_config = ConfigDict(extra="allow")

    repair: ClassVar[str] = "delete it if nobody works here any more"

    place: str = Field(description="host, boot and space of process numbers, in which the pid means something")
    pid: int = Field(gt=0)
    started: str | None = Field(description='in the count of the kernel; "" where the system does not tell')

    @property
    def is_gone(self) -> bool:
        """Whether it ran here and is gone; a process elsewhere may always be there still."""
        return self.place == place() and process_start(self.pid) != self.started


class Owner(Process):
    """The process that owns a folder."""

    job: str = Field("", description="the scheduler's name of what the process belongs to")


def this_process() -> Process:
    """Return the process that runs this."""
    return Process(place=place(), pid=os.getpid(), started=process_start(os.getpid()))
