"""One row of results: (run, step, evaluation key) -> metrics. Records are immutable JSON files. No torch."""

import math
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

from diffussm.config import digest, without_later_defaults
from diffussm.errors import UserError
from diffussm.metric import LAYER_SIZES
from diffussm.metric_table import METRICS, impossible_value
from diffussm.store.names import Name, child
from diffussm.store.reading import read_model
from diffussm.store.writing import write_atomically, write_once

RECORD_VERSION = 1
DDPM_VERSION = 2  # before, it visited other timesteps at some numbers of steps


class EvaluationKey(BaseModel):
    """Everything that could change a metric, other than the run and the step."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    extractor: str = Field(description="network whose features are compared")
    extractor_sha256: str = Field(description="SHA-256 of the extractor's weights file")
    reference: str = Field(description="what samples are compared with: a data set, or a reference file's name")
    reference_sha256: str = Field(description="of the data set's pixels and labels, or of the file")
    reference_samples: int = Field(description="images of the reference")
    reference_kind: str = Field(
        "images", description="what Frechet distances are computed from: its images, or the statistics in its file"
    )
    samples: int = Field(description="n: samples measured")
    sampler: str = Field(description="ddim, ddpm, dpm-solver++, unipc; outside: external samples")
    sampler_steps: int = Field(description="network calls of the sampler; 0: unknown")
    guidance: float = Field(description="scale of classifier-free guidance; 1: none")
    guidance_channels: int = Field(0, description="only the first channels of the noise are guided; 0: all")
    clip: bool = Field(description="predicted images clamped to the data's range at each step")
    weights: str = Field(description="ema: moving average, raw: as trained; outside: unknown")
    metrics: tuple[str, ...] = Field(description="what was measured")
    transform: str = Field(description="what was done to the data's images before training and in the reference")
    extractor_layers: str = Field("", description="network and layers of an extractor from outside this package")
    clean_fid_sha256: str = Field("", description="SHA-256 of clean-fid's weights file, if its metrics are requested")

    @property
    def digest(self) -> str:
        version = DDPM_VERSION if self.sampler == "ddpm" else RECORD_VERSION
        return digest({"version": version, **without_later_defaults(self.model_dump(mode="json"))})

    @property
    def content_digest(self) -> str:
        """Digest of what determines the numbers: equal for keys that differ only in the name of one reference file."""
        follow_from_hash = {"reference", "reference_samples", "reference_kind"}
        return digest(without_later_defaults(self.model_dump(mode="json", exclude=follow_from_hash)))

    @property
    def extractor_and_n(self) -> str:
        """The extractor and n, which every reported number must name."""
        of = {"inception-v3-compat": "Inception"}.get(self.extractor, self.extractor.replace("-cnn", " CNN"))
        return f"{of}, n = {self.samples}"

    def unreliability(self, metric: str) -> str:
        """Return why a metric is unreliable at this n; "" if it is not."""
        entry = METRICS[metric]
        features = LAYER_SIZES.get(self.extractor, {}).get(entry.layer, 0)
        return entry.unreliability(self.samples, self.reference_samples, features)

    def metric_label(self, metric: str) -> str:
        setting = f"its own Inception, n = {self.samples}" if METRICS[metric].has_own_network else self.extractor_and_n
        return f"{METRICS[metric].title} ({setting})"


class Record(BaseModel):
    """Metrics of one run at one step, under one key. `timing` and `provenance` may differ between equal records."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    run_id: Name = Field(description="the run, or `outside-` and the digest of external samples")
    step: int = Field(description="training steps of the weights; 0 for external samples")
    key: EvaluationKey = Field(description="how it was measured")
    metrics: dict[str, float] = Field(description="name (and suffix) to value, see below")
    timing: dict[str, float] = Field(description="seconds_per_step of training, evaluation_seconds")
    provenance: dict[str, Any] = Field(description="code, packages, hardware, and when it was made")

    @model_validator(mode="after")
    def _possible(self) -> "Record":
        for field, values in (("metrics", self.metrics), ("timing", self.timing)):
            if bad := [name for name, value in values.items() if not math.isfinite(value)]:
                raise ValueError(f"{field}: not finite: {', '.join(bad)}")
        if impossible := impossible_value(self.metrics):
            raise ValueError(f"metrics: {impossible}")
        return self


class KeyDigests(NamedTuple):
    """The digests by which the records of an evaluation key are found.

    `content` is the key's `content_digest` if its reference is a file, which may have been measured against under
    another name; "" for data sets, and in manifests of before.
    """

    key: str
    content: str = ""

    def measure_as(self, other: "KeyDigests") -> bool:
        """Return whether both are of one way to measure, under one or two names of the reference."""
        return self.key == other.key or (bool(self.content) and self.content == other.content)


def unreliable(key: EvaluationKey, metrics: Collection[str]) -> dict[str, str]:
    """Return those of the metrics that are unreliable under the key, in the table's order, and why."""
    return {name: why for name in METRICS if name in metrics and (why := key.unreliability(name))}


WITH_REFERENCE = ("reference_sha256", "reference_samples", "reference_kind", "transform")  # follow from it
ALWAYS_SHARED = frozenset({"samples", "extractor"})  # even where a grid varies them: such numbers are not comparable


def common_key(keys: Iterable[EvaluationKey], what: str, varied: Collection[str] = ()) -> EvaluationKey | None:
    """Return the key of records that share a column or an axis; None if there are no records.

    Raises UserError, which names the fields, if they differ in fields other than those `varied` by what is compared.
    Records with different n or extractors never share one. References of one hash are one, whatever their names.
    """
    implied_by_reference = WITH_REFERENCE if "reference" in varied else ()
    dumped = [key.model_dump() for key in dict.fromkeys(keys)]
    names: dict[str, str] = {}
    for one in dumped:
        one["reference"] = names.setdefault(one["reference_sha256"] or one["reference"], one["reference"])
    fields = dumped[0].keys() - ({*varied, *implied_by_reference} - ALWAYS_SHARED) if dumped else set()
    if differ := sorted(name for name in fields if any(d[name] != dumped[0][name] for d in dumped)):
        raise UserError(f"{what}: records differ in how they were measured ({', '.join(differ)}): not comparable")
    return EvaluationKey(**dumped[0]) if dumped else None


def write(record: Record, path: Path) -> None:
    """Write the record atomically; a valid one that exists already takes precedence."""
    content = record.model_dump_json(indent=1).encode()
    if not write_once(path, content) and read(path) is None:
        write_atomically(path, content)


def read(path: Path) -> Record | None:
    """Return the record at `path`, or None if there is no valid one."""
    try:
        return read_model(path, Record)
    except (FileNotFoundError, UserError):
        return None


def find(milestone: Path, wanted: KeyDigests) -> Record | None:
    """Return the valid record of that key in a milestone's folder; failing that, one with the same content under a key
    whose reference had another name; else None."""
    if (record := read(child(milestone, wanted.key, "record.json"))) or not wanted.content:
        return record
    for path in sorted(milestone.glob("*/record.json")):
        other = read(path)
        if other and (other.key.digest, other.key.content_digest) == (path.parent.name, wanted.content):
            return other
    return None
