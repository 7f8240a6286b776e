"""What identifies a run and what is requested of it.

The run id digests the fields that determine the trajectory and differ from the schema's defaults; steps and milestones,
evaluation, checkpoint_minutes, and how a step is computed (threads, backend, compile, checkpointing,
micro_batch) do not determine it. A request states what is requested of a run, and is named by its digest.
"""

import hashlib
import json
from functools import cache, lru_cache
from typing import Any

from diffussm.config.paths import is_extractor_file
from diffussm.config.schema import LATENT_FIELDS, Config, EvaluationConfig, Section, is_external

SCHEMA_VERSION = 1  # rises when a default or a meaning changes, never for a new field

_OUTSIDE_TRAJECTORY = {
    "data": {"root", "transform", *LATENT_FIELDS},
    "training": {
        "steps",
        "milestones",
        "checkpoint_minutes",
        "threads",
        "backend",
        "compile",
        "checkpointing",
        "micro_batch",
    },
    "evaluation": set(EvaluationConfig.model_fields),
}


def trajectory(config: Config) -> dict[str, Any]:
    """Return the fields that determine the training's trajectory and differ from the schema's defaults, nested."""
    out: dict[str, Any] = {}
    defaults = _default_trajectory()
    for section, value in config.model_dump(mode="json", exclude=_OUTSIDE_TRAJECTORY).items():
        if isinstance(value, dict):
            changed = {field: v for field, v in value.items() if v != defaults[section][field]}
            if changed:
                out[section] = changed
        elif value != defaults[section]:
            out[section] = value
    return out


@cache
def _default_trajectory() -> dict[str, Any]:
    return Config().model_dump(mode="json", exclude=_OUTSIDE_TRAJECTORY)


def digest(content: Any) -> str:
    """Return twelve hexadecimal digits of the SHA-256 of `content` as canonical JSON."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


@lru_cache(maxsize=1 << 15)  # a plan needs each run's id more than once
def run_id(config: Config) -> str:
    """Return a readable slug and a digest: equal for equal trajectories, whatever grid or arm they came from."""
    m = config.model
    mixer = "" if m.kind == "dit" else f"-{m.mixer.rpartition(':')[2].lower()}"
    shape = f"d{m.depth}w{m.width}-" + ("" if m.kind == "dit" else f"m{m.hourglass}") + f"p{m.patch}"
    data = config.data.name.rpartition(":")[2].lower() if is_external(config.data.name) else config.data.name
    slug = f"{data}-{m.kind}{mixer}-{shape}-s{config.seed}"
    return f"{slug}-{digest({'schema': SCHEMA_VERSION, **trajectory(config)})}"


class Request(Section):
    """What is requested of a run: how far to train it, at which steps to evaluate it and how."""

    steps: int
    milestones: tuple[int, ...]
    evaluation: EvaluationConfig

    @classmethod
    def from_config(cls, config: Config) -> "Request":
        """Return what the config requests of its run: milestones beyond the steps are dropped, the last step always is
        one."""
        steps = config.training.steps
        kept = {milestone for milestone in config.training.milestones if milestone < steps}
        return cls(steps=steps, milestones=tuple(sorted(kept | {steps})), evaluation=config.evaluation)

    @property
    def digest(self) -> str:
        return _request_digest(self, frozenset())

    @property
    def results_digest(self) -> str:
        """Digest of what the results depend on: equal for requests that differ only in batch size, in where weights
        are looked for, or in the path of a reference file or of an extractor's file of the same hash."""
        e = self.evaluation
        paths = {"reference"} if e.reference_file_sha256 else set()
        paths |= {"extractor"} if e.extractor_weights_sha256 and is_extractor_file(e.extractor) else set()
        return _request_digest(self, frozenset({"batch", "extractor_weights", "vae", *paths}))


@lru_cache(maxsize=1 << 12)  # most runs of a grid share a request
def _request_digest(request: Request, without: frozenset[str]) -> str:
    """Return the digest without these fields of the evaluation."""
    evaluation = without_later_defaults(request.evaluation.model_dump(mode="json", exclude=set(without)))
    return digest({**request.model_dump(mode="json", exclude={"evaluation"}), "evaluation": evaluation})


def dropped_milestones(config: Config) -> list[str]:
    """Return a line on the milestones that lie beyond the steps, which a request leaves out, if there are any."""
    steps = config.training.steps
    if beyond := [str(milestone) for milestone in config.training.milestones if milestone > steps]:
        return [f"training.milestones: {', '.join(beyond)} left out, beyond training.steps = {steps}"]
    return []


FIELDS_ADDED_LATER = {  # since the first digests, with their defaults
    "guidance_channels": 0,
    "extractor_weights": "",
    "reference_file_sha256": "",
    "extractor_weights_sha256": "",
    "reference_kind": "images",
    "labels": "random",
    "extractor_layers": "",
    "clean_fid_sha256": "",
    "vae": "",
    "vae_sha256": "",
    "decoding": "",
    "precision": "float32",
    "ddim_eta": 0.0,
}


def without_later_defaults(content: dict[str, Any]) -> dict[str, Any]:
    """Return a request's or a key's content without later fields at their defaults: as it was digested before them."""
    return {name: value for name, value in content.items() if FIELDS_ADDED_LATER.get(name, ...) != value}
