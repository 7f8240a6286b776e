"""How a run is executed: `machine.json`, decided at the run's first start."""

from typing import ClassVar

from pydantic import Field, field_validator

from diffussm.store.reading import StoredModel

BACKENDS = ("reference", "fft", "chunked", "compiled")


class Execution(StoredModel):
    """What the machine decided at the run's first start, and what every later start uses again."""

    repair: ClassVar[str] = "restore it, or delete it to have it decided anew by the machine that goes on"

    backend: str = Field(description="implementation of S4D")
    threads: int = Field(ge=1, description="threads of torch on the CPU")
    device: str = Field(min_length=1, description="cpu or cuda")
    shares: int = Field(1, ge=1, description="micro-batches of a training batch: processes that began the run")

    @field_validator("backend")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in BACKENDS:
            raise ValueError(f"unknown backend; valid: {', '.join(BACKENDS)}")
        return name
