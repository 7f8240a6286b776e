"""What `--calibrate` measured on a kind of machine: `runs/calibration/<digest of the machine>.json`."""

from pathlib import Path
from typing import Any, ClassVar

from pydantic import ConfigDict, Field

from diffussm.config import Config, digest, is_npz_name
from diffussm.host.machine import gpus, processor, usable_cores
from diffussm.store.execution import StepSettings
from diffussm.store.reading import StoredModel, read_model
from diffussm.store.writing import to_json, write_atomically


class ShapeTiming(StoredModel):
    """Medians of one shape of run, in seconds, and its MACs. Fields of later versions are kept."""

    model_config = ConfigDict(extra="allow")

    macs_per_step: int | None = Field(gt=0, description="None: the mixer states none")
    macs_per_call: int | None = Field(gt=0)
    seconds_per_step: float = Field(ge=0, description="of training")
    seconds_per_image_and_call: float = Field(ge=0, description="of sampling")
    evaluation_seconds: float = Field(ge=0, description="of an evaluation, beyond sampling")


class Calibration(StoredModel):
    """Times on one kind of machine. Fields of later versions are kept."""

    model_config = ConfigDict(extra="allow")

    repair: ClassVar[str] = "delete it, and measure again with --calibrate"

    machine: dict[str, Any]
    provenance: dict[str, Any] = Field(default_factory=dict)
    entries: dict[str, ShapeTiming] = Field(description="digest of a shape to its times")

    @classmethod
    def load(cls, runs: Path) -> "Calibration":
        """Return what was measured on this kind of machine; raise UserError if the file is damaged."""
        try:
            return read_model(path_of(runs), cls)
        except FileNotFoundError:
            return cls(machine=machine(), entries={})

    def save(self, runs: Path) -> None:
        write_atomically(path_of(runs), to_json(self.model_dump(mode="json")))


def machine() -> dict[str, Any]:
    """Return the properties of this machine that the times of a calibration depend on."""
    return {"processor": processor(), "cores": usable_cores(), "gpus": len(gpus())}


def path_of(runs: Path) -> Path:
    """Return the path of the calibration file for this kind of machine."""
    return runs / "calibration" / f"{digest(machine())}.json"


def shape_digest(config: Config, threads: int) -> str:
    """Return a digest that is equal for configs whose steps and evaluations cost the same. `threads` is the number of
    threads of a run whose config does not set it."""
    shape = config.model_dump(
        mode="json",
        include={
            "model": True,
            "diffusion": {"learned_variance"},
            "training": {"batch", "precision", "backend"},
            "evaluation": {"batch", "extractor", "reference", "samples", "metrics"},
        },
    )
    defaults = StepSettings.of(Config()).model_dump()  # timings of before are of these, and have the digests of before
    shape["training"] |= {k: v for k, v in StepSettings.of(config).model_dump().items() if v != defaults[k]}
    reference = config.evaluation.reference  # a file counts by its name, wherever it is
    shape["evaluation"]["reference"] = Path(reference).name if is_npz_name(reference) else reference
    if config.evaluation.precision != "float32":
        shape["evaluation"]["precision"] = config.evaluation.precision
    return digest({**shape, "threads": config.training.threads or threads})
