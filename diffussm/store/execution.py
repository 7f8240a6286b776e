"""Execution settings of a run: `machine.json`, chosen at the run's first start."""

from typing import ClassVar

from pydantic import ConfigDict, Field, field_validator

from diffussm.config import BACKEND_NAMES, Checkpointing, Config
from diffussm.store.reading import StoredModel


class StepSettings(StoredModel):
    """How a training step is computed, whatever its result up to rounding. Runs of versions before state nothing."""

    checkpointing: Checkpointing = Field("none", description="block: blocks are computed again in the backward pass")
    micro_batch: int = Field(0, ge=0, description="most images that a process computes at once; 0: all of its part")

    @classmethod
    def of(cls, config: Config) -> "StepSettings":
        """Return the settings of a config."""
        return cls(**{name: getattr(config.training, name) for name in StepSettings.model_fields})

    def in_config(self, config: Config) -> Config:
        """Return the config with these settings."""
        changes = {name: getattr(self, name) for name in StepSettings.model_fields}
        return config.model_copy(update={"training": config.training.model_copy(update=changes)})


class Execution(StepSettings):
    """The execution settings chosen at the run's first start and reused by later ones."""

    model_config = ConfigDict(populate_by_name=True)

    repair: ClassVar[str] = "restore it, or delete it: the machine that continues the run then chooses them anew"

    backend: str = Field(description="implementation of S4D")
    threads: int = Field(ge=1, description="threads of torch on the CPU")
    device: str = Field(min_length=1, description="cpu or cuda")
    micro_batches: int = Field(
        1, ge=1, alias="shares", description="parts of a training batch: processes that began the run"
    )

    @field_validator("backend")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in BACKEND_NAMES:
            raise ValueError(f"unknown backend; valid: {', '.join(BACKEND_NAMES)}")
        return name
