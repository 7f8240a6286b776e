"""One row of results: (run, step, evaluation key) -> metrics. Records are immutable JSON files. No torch."""

import math
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from diffussm.config import digest, without_new_defaults
from diffussm.workdir import link_first, write_whole

RECORD_VERSION = 1
DDPM_VERSION = 2  # before, it visited other timesteps at some numbers of steps


class EvaluationKey(BaseModel):
    """Everything that could change a metric, other than the run and the step."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    extractor: str
    extractor_sha256: str
    reference: str
    reference_sha256: str
    reference_samples: int
    samples: int
    sampler: str
    sampler_steps: int
    guidance: float
    guidance_channels: int = 0
    clip: bool
    weights: str
    metrics: tuple[str, ...]
    transform: str

    @property
    def digest(self) -> str:
        version = DDPM_VERSION if self.sampler == "ddpm" else RECORD_VERSION
        return digest({"version": version, **without_new_defaults(self.model_dump(mode="json"))})

    @property
    def fid_name(self) -> str:
        """FID with the two things without which the number means nothing."""
        return f"FID ({self.extractor.replace('-cnn', ' CNN')}, n = {self.samples})"


class Record(BaseModel):
    """Metrics of one run at one step, under one key. `timing` and `provenance` may differ between equal records."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    run_id: str
    step: int
    key: EvaluationKey
    metrics: dict[str, float]
    timing: dict[str, float]  # seconds_per_step of training, evaluation_seconds
    provenance: dict[str, Any]

    @model_validator(mode="after")
    def _finite(self) -> "Record":
        bad = [name for name, value in self.metrics.items() if not math.isfinite(value)]
        if bad:
            raise ValueError(f"metrics: not finite: {', '.join(bad)}")
        return self


def write(record: Record, path: Path) -> None:
    """Write the record whole or not at all; a valid one that is already there wins."""
    content = record.model_dump_json(indent=1).encode()
    if not link_first(path, content) and read(path) is None:
        write_whole(path, content)


def read(path: Path) -> Record | None:
    """The record at `path`, or None if there is no valid one."""
    try:
        return Record.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
