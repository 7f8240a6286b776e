"""What identifies a run and what is asked of it.

The run id digests the fields that determine the trajectory and differ from the schema's defaults; steps and milestones,
evaluation, threads and backend do not determine it. A request holds what is asked of a run, and is named by its
digest.
"""

import hashlib
import json
from functools import cache, lru_cache
from typing import Any

from diffussm.config.schema import Config, EvaluationConfig, Section

SCHEMA_VERSION = 1  # rises when a default or a meaning changes, never for a new field

_OUTSIDE_TRAJECTORY = {
    "training": {"steps", "milestones", "threads", "backend"},
    "evaluation": set(EvaluationConfig.model_fields),
}


def trajectory(config: Config) -> dict[str, Any]:
    """The fields that determine the training's trajectory and differ from the schema's defaults, nested."""
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
    """Twelve hexadecimal digits of the SHA-256 of `content` as canonical JSON."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


@lru_cache(maxsize=1 << 15)  # a plan asks for each of its runs' more than once
def run_id(config: Config) -> str:
    """Readable slug and digest: equal for equal trajectories, whatever grid or arm they came from."""
    m = config.model
    mixer = "" if m.kind == "dit" else f"-{m.mixer.rpartition(':')[2].lower()}"
    shape = f"d{m.depth}w{m.width}-" + ("" if m.kind == "dit" else f"m{m.hourglass}") + f"p{m.patch}"
    slug = f"{config.data.name}-{m.kind}{mixer}-{shape}-s{config.seed}"
    return f"{slug}-{digest({'schema': SCHEMA_VERSION, **trajectory(config)})}"


class Request(Section):
    """What is asked of a run: how far to train it, where to measure it and how."""

    steps: int
    milestones: tuple[int, ...]
    evaluation: EvaluationConfig

    @property
    def digest(self) -> str:
        return _request_digest(self, frozenset())

    @property
    def results(self) -> str:
        """Digest of what comes out: equal for requests that differ only in how they are worked on."""
        return _request_digest(self, frozenset({"batch", "extractor_weights"}))


@lru_cache(maxsize=1 << 12)  # the runs of a grid are mostly asked the same
def _request_digest(request: Request, without: frozenset[str]) -> str:
    """Without some fields of the evaluation."""
    evaluation = without_new_defaults(request.evaluation.model_dump(mode="json", exclude=set(without)))
    return digest({**request.model_dump(mode="json", exclude={"evaluation"}), "evaluation": evaluation})


def request(config: Config) -> Request:
    """What the config asks of its run: milestones beyond the steps are dropped, the last step always is one."""
    steps = config.training.steps
    kept = {milestone for milestone in config.training.milestones if milestone < steps}
    return Request(steps=steps, milestones=tuple(sorted(kept | {steps})), evaluation=config.evaluation)


NEW_IN_EVALUATION = {  # fields that came after the first digests, at their defaults
    "guidance_channels": 0,
    "extractor_weights": "",
    "reference_kind": "images",
    "extractor_layers": "",
    "clean_fid_sha256": "",
}


def without_new_defaults(content: dict[str, Any]) -> dict[str, Any]:
    """A request's or a key's content as it was digested before a new field came, where that has its default."""
    return {name: value for name, value in content.items() if NEW_IN_EVALUATION.get(name, ...) != value}
