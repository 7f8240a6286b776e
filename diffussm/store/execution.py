"""Execution settings of a run: `machine.json`, chosen at the run's first start."""

from typing import ClassVar

from pydantic import ConfigDict, Field, field_validator

from diffussm.config import BACKEND_NAMES
from diffussm.store.reading import StoredModel


class Execution(StoredModel):
    """The execution settings chosen at the run's first start and reused by later ones."""

    model_config = ConfigDict(populate_by_name=True)

    repair: ClassVar[str] = "restore it, or delete it: the machine that continues the run then chooses them anew"

    backend: str = Field(description="implementation of S4D")
    threads: int = Field(ge=1, description="threads of torch on the CPU")
    device: str = Field(min_length=1, description="cpu or cuda")
    micro_batches: int = Field(
        1, ge=1, alias="shares", description="micro-batches of a training batch: processes that began the run"
    )

    @field_validator("backend")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in BACKEND_NAMES:
            raise ValueError(f"unknown backend; valid: {', '.join(BACKEND_NAMES)}")
        return name
