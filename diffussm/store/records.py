"""One row of results: (run, step, evaluation key) -> metrics. Records are immutable JSON files. No torch."""

import math
import sys
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from diffussm.config import digest, without_later_defaults
from diffussm.errors import UserError
from diffussm.metric import layer_size
from diffussm.metric_table import METRICS, impossible_value
from diffussm.store.integrity.digest import ZEROS, is_intact, seal
from diffussm.store.integrity.set_aside import set_aside
from diffussm.store.integrity.stamp import FORMAT_VERSION, DamagedFile
from diffussm.store.names import Name, child
from diffussm.store.reading import describe_damage, open_regular
from diffussm.store.writing import to_json, write_once

RECORD_VERSION = 1
DDPM_VERSION = 2  # before, it visited other timesteps at some numbers of steps
OWN_CNN = "-own-cnn"  # ends the names of extractors that users trained
PLACE_DEPTH = 3  # of a record's folder below its run's
DATA_BAKED = "data_baked"  # in provenance: of latents, what is the same in each epoch
DATA_DIGESTS = "data_digests"  # in provenance: of the data of training, of the reference and of the extractor


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
    ddim_eta: float = Field(0.0, description="noise that DDIM adds; 0: none, 1: as much as DDPM")
    precision: str = Field("float32", description="what the network computed the samples in: float32, tf32, bf16")
    guidance: float = Field(description="scale of classifier-free guidance; 1: none")
    guidance_channels: int = Field(0, description="only the first channels of the noise are guided; 0: all")
    labels: str = Field(
        "random",
        description="classes of the samples: random, or balanced, equally many of each; external samples: unknown",
    )
    clip: bool = Field(description="predicted images clamped to the data's range at each step")
    weights: str = Field(description="ema: moving average, raw: as trained; outside: unknown")
    metrics: tuple[str, ...] = Field(description="what was measured")
    transform: str = Field(description="what was done to the data's images before training and in the reference")
    extractor_layers: str = Field(
        "", description="network and layers of an extractor from outside this package, sizes of one's own in a file"
    )
    clean_fid_sha256: str = Field("", description="SHA-256 of clean-fid's weights file, if its metrics are requested")
    vae_sha256: str = Field("", description="SHA-256 of the autoencoder that decoded the samples; empty: none did")
    decoding: str = Field(
        "", description="scale and shift of the latents that it decoded, and its black and white; empty: none did"
    )

    @property
    def digest(self) -> str:
        return self._digest(DDPM_VERSION if self.sampler == "ddpm" else RECORD_VERSION)

    @property
    def digests(self) -> set[str]:
        """The digest, and that of before for records whose key had another version."""
        return {self.digest, self._digest(RECORD_VERSION)}

    def _digest(self, version: int) -> str:
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
        if self.extractor.endswith(OWN_CNN):
            of = f"own CNN of {self.extractor.removesuffix(OWN_CNN)}"
        return f"{of}, n = {self.samples}"

    def unreliability(self, metric: str) -> str:
        """Return why a metric is unreliable at this n; "" if it is not."""
        entry = METRICS[metric]
        features = layer_size(self.extractor, entry.layer, self.extractor_layers)
        return entry.unreliability(self.samples, self.reference_samples, features)

    def metric_label(self, metric: str) -> str:
        setting = f"its own Inception, n = {self.samples}" if METRICS[metric].has_own_network else self.extractor_and_n
        return f"{METRICS[metric].title} ({setting})"


class Record(BaseModel):
    """Metrics of one run at one step, under one key. `timing` and `provenance` may differ between equal records."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    run_id: Name = Field(
        description="the run; `outside-` and the digest of external samples; `model-` and that of a folder's weights"
    )
    step: int = Field(description="training steps of the weights; 0 for external samples, or if unknown")
    key: EvaluationKey = Field(description="how it was measured")
    metrics: dict[str, float] = Field(description="name (and suffix) to value, see below")
    timing: dict[str, float] = Field(description="seconds_per_step of training, evaluation_seconds")
    provenance: dict[str, Any] = Field(description="code, packages, hardware, and when it was made")
    weights_sha256: str = Field("", description="SHA-256 of the file of the run's weights, as sha256sum prints it")
    weights_verifiable: bool | None = Field(
        None, description="whether that file stated its digest, which was checked; null if unknown"
    )
    is_verifiable: bool = Field(True, exclude=True, description="whether the record's file stated its digest")

    @property
    def of_other_data(self) -> list[str]:
        """`reference` and `extractor`, each if it was made of other data than the run was trained on, as far as is
        known."""
        digests = self.provenance.get(DATA_DIGESTS)
        return of_other_data(digests) if isinstance(digests, dict) else []

    @property
    def data_baked(self) -> tuple[str, ...]:
        """What was baked into the latents that the run was trained on, as far as is known."""
        stated = self.provenance.get(DATA_BAKED)
        return tuple(map(str, stated)) if isinstance(stated, list) else ()

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


def of_other_data(digests: Mapping[str, str]) -> list[str]:
    """Return which of `reference` and `extractor` have another digest than the data of `training`; one that is not
    stated is taken for the same."""
    training = digests.get("training")
    return [name for name in ("reference", "extractor") if training and digests.get(name, training) != training]


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


class StoredRecord(Record):
    """A record as its file has it: of format version 2 on with the digest of the file."""

    format_version: int = Field(1, description="of the file; before 2, it stated no digest")
    sha256: str = Field("", description="SHA-256 of this file with zeros in the place of these digits")


def write(record: Record, path: Path) -> None:
    """Write the record atomically; a valid one that exists already takes precedence, any other is set aside."""
    content = {**record.model_dump(mode="json"), "format_version": FORMAT_VERSION, "sha256": ZEROS}
    sealed = seal(to_json(content))
    if write_once(path, sealed):
        return
    if problem := refusal(path):
        print(f"{problem}; set aside as {set_aside(path).name}, and measured again", file=sys.stderr, flush=True)
        write_once(path, sealed)


def read(path: Path) -> Record | None:
    """Return the record at `path`; None if there is none, or one that is refused (see `refusal`)."""
    try:
        return _checked(path)
    except (FileNotFoundError, UserError):
        return None


def refusal(path: Path) -> str:
    """Return why the record at `path` is refused: it is damaged, or of another run, step or key; "" if it is not."""
    try:
        _checked(path)
    except FileNotFoundError:
        return ""
    except UserError as damage:
        return str(damage)
    return ""


def _checked(path: Path) -> Record:
    """Return the record at `path`. Raises FileNotFoundError if there is none, and UserError if it is refused."""
    with open_regular(path, lambda what: DamagedFile(path, what)) as file:
        content = file.read()
    try:
        stored = StoredRecord.model_validate_json(content)
    except ValidationError as error:
        raise DamagedFile(path, describe_damage(error)) from None
    if stored.model_fields_set & {"format_version", "sha256"}:
        if stored.format_version != FORMAT_VERSION:
            raise DamagedFile(path, f"has format version {stored.format_version}; expected {FORMAT_VERSION}")
        if not is_intact(content):
            raise DamagedFile(path, "its content does not have the SHA-256 that it states, or it states none")
    fields = {name: getattr(stored, name) for name in Record.model_fields}
    record = Record.model_construct(**{**fields, "is_verifiable": "sha256" in stored.model_fields_set})
    if len(path.parents) > PLACE_DEPTH and path.parents[2].name == "milestones":
        _check_place(record, path)
    return record


@lru_cache(maxsize=1 << 10)  # most records share their key
def _digests(key: EvaluationKey) -> set[str]:
    return key.digests


def _check_place(record: Record, path: Path) -> None:
    """Raise DamagedFile if the record is not the one that its path, <run>/milestones/<step>/<key>/record.json, names,
    or lacks a metric of its key."""
    folder, step, key = path.parents[3], path.parents[1].name, path.parent.name
    run = folder.name or folder.absolute().name
    if record.run_id != run:
        raise DamagedFile(path, f"is of run {record.run_id}")
    if str(record.step) != step:
        raise DamagedFile(path, f"is of step {record.step}")
    if key not in _digests(record.key):
        raise DamagedFile(path, f"is of evaluation key {record.key.digest}")
    if missing := [name for name in record.key.metrics if name not in record.metrics]:
        raise DamagedFile(path, f"has no {missing[0]}, which its key lists")


def refusal_of(milestone: Path, wanted: KeyDigests) -> str:
    """Return why the record of that key in a milestone's folder is refused; "" if it is not, or there is none."""
    return refusal(child(milestone, wanted.key, "record.json"))


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
