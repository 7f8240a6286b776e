"""The one schema of a run: what is trained, on what, how, and how it is evaluated. Every default lives here.

A base (`bases/<name>.toml`) is a whole recipe; overrides are dotted keys on top of it. `resolve` makes the frozen
Config, resets the fields that the chosen parts do not use, and so gives equal runs one id. The run id digests the
fields that determine the trajectory and differ from their defaults here; steps and milestones, evaluation, threads,
backend and paths do not. This module loads no torch.
"""

import hashlib
import json
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from diffussm.errors import UserError, unknown
from diffussm.metric_table import METRICS

SCHEMA_VERSION = 1  # rises when a default or a meaning changes, never for a new field
TIMESTEP_FREQUENCIES = 256  # sinusoids of the timestep embedding
BASES = Path(__file__).parent / "bases"

MIXERS = ("s4d", "attention", "identity")

Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]  # a key of the random generators, which NumPy takes exactly up to there


def is_outside(mixer: Any) -> bool:
    """Whether the mixer is a class from outside this package, given as `package.module:Class`."""
    return isinstance(mixer, str) and ":" in mixer


def _mixer(name: str) -> str:
    if name not in MIXERS and not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", name):
        raise ValueError(str(unknown("", name, [*MIXERS, "package.module:Class"])).removeprefix(": "))
    return name


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class ModelConfig(Section):
    kind: Literal["diffussm", "dit"] = "diffussm"
    depth: Positive = 2
    width: Annotated[int, Field(ge=4, multiple_of=4)] = 64  # two axes of sine and cosine in the position embedding
    heads: Positive = 1
    hourglass: Positive = 1
    patch: Positive = 1
    mixer: Annotated[str, AfterValidator(_mixer)] = "s4d"
    direction: Literal["bidirectional", "forward"] = "bidirectional"
    residual: Literal["short", "full"] = "short"
    scan: Literal["raster", "serpentine", "hilbert"] = "raster"
    state: Annotated[int, Field(ge=2, multiple_of=2)] = 64  # conjugate pairs: an odd one would lose a state
    s4d_init: Literal["lin", "inv", "real"] = "lin"
    image_size: Positive = 8
    channels: Positive = 1
    classes: Count = 0  # 0: unconditional

    @property
    def length(self) -> int:
        """L: tokens at full resolution."""
        return (self.image_size // self.patch) ** 2

    @property
    def short_length(self) -> int:
        """J = L / M: positions of the residual stream."""
        return self.length // self.hourglass

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        if self.image_size % self.patch:
            raise ValueError(f"patch: {self.patch} does not divide image_size = {self.image_size}")
        if self.length % self.hourglass:
            raise ValueError(f"hourglass: {self.hourglass} does not divide the {self.length} tokens of the image")
        if self.residual == "full" and self.width % self.hourglass:
            raise ValueError(f"hourglass: {self.hourglass} does not divide width = {self.width} at residual = full")
        if 2 * self.width % self.hourglass:
            raise ValueError(f"hourglass: {self.hourglass} does not divide 2 x width = {2 * self.width}")
        if (self.kind == "dit" or self.mixer == "attention") and self.width % self.heads:
            raise ValueError(f"heads: {self.heads} does not divide width = {self.width}")
        side = self.image_size // self.patch
        if self.scan == "hilbert" and side & (side - 1):
            raise ValueError(f"scan: hilbert needs a power of two of tokens a side, not {side}")
        return self


class DataConfig(Section):
    name: str = "digits"
    root: str = ""  # where the files lie; empty for embedded data
    transform: Literal["none"] = "none"


class DiffusionConfig(Section):
    timesteps: Annotated[int, Field(ge=21)] = 1000  # at 20 the linear schedule's last beta is 1
    schedule: Literal["linear"] = "linear"
    learned_variance: bool = True
    loss: Literal["hybrid", "simple"] = "hybrid"
    normal_cdf: Literal["exact", "tanh"] = "exact"  # in the hybrid loss of step 0; ADM and DiT train with tanh's

    @model_validator(mode="after")
    def _loss_has_its_parts(self) -> Self:
        if (self.loss == "hybrid") != self.learned_variance:
            raise ValueError("loss: hybrid needs learned_variance = true, simple needs false")
        if self.loss == "simple" and self.normal_cdf != "exact":
            raise ValueError("normal_cdf: used by loss = hybrid alone")
        return self


class TrainingConfig(Section):
    batch: Positive = 128
    lr: Annotated[float, Field(gt=0)] = 1e-4
    ssm_lr_scale: Annotated[float, Field(ge=0)] = 1.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.9999
    label_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    precision: Literal["float32", "bf16"] = "float32"
    # What follows does not change the trajectory.
    steps: Positive = 1
    milestones: tuple[Positive, ...] = ()
    threads: Count = 0  # 0: all cores
    backend: Literal["auto", "reference", "fft", "chunked", "compiled"] = "auto"


SOLVERS = ("dpm-solver++", "unipc")  # the samplers that Diffusers brings


if TYPE_CHECKING:
    MetricName = str
else:
    MetricName = Literal[tuple(METRICS)]


class EvaluationConfig(Section):
    extractor: str = "digits-cnn"
    extractor_weights: str = ""  # a file, or a folder of files under their published names; empty: $DIFFUSSM_WEIGHTS
    samples: Annotated[int, Field(ge=2)] = 1000
    batch: Positive = 250
    reference: str = "digits"
    sampler: Literal["ddim", "ddpm", "dpm-solver++", "unipc"] = "ddim"
    sampler_steps: Positive = 25
    guidance: Annotated[float, Field(ge=0)] = 1.0  # 1: none
    guidance_channels: Count = 0  # only the first channels of the noise are guided; 0: all
    clip: bool = True  # clamp predicted images to [-1, 1] at each step: right for pixels, wrong for latents
    metrics: Annotated[tuple[MetricName, ...], Field(min_length=1)] = ("fid",)
    weights: Literal["ema", "raw"] = "ema"


class Config(Section):
    seed: Seed = 0
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    diffusion: DiffusionConfig = DiffusionConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @property
    def outputs(self) -> int:
        """Channels of the network's output: noise, and variance where it is learned."""
        return self.model.channels * (2 if self.diffusion.learned_variance else 1)


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


def _is_diffussm(m: Mapping[str, Any]) -> bool:
    return m["kind"] == "diffussm"


def _is_s4d(m: Mapping[str, Any]) -> bool:
    return _is_diffussm(m) and m["mixer"] == "s4d"


def _is_s4d_or_outside(m: Mapping[str, Any]) -> bool:
    return _is_diffussm(m) and (m["mixer"] == "s4d" or is_outside(m["mixer"]))


def _attends_or_is_outside(m: Mapping[str, Any]) -> bool:
    return m["kind"] == "dit" or m["mixer"] == "attention" or is_outside(m["mixer"])


def _has_an_order(m: Mapping[str, Any]) -> bool:
    """Attention and a copy see a set of tokens; an order matters to them where M > 1 makes groups of it."""
    return _is_diffussm(m) and (m["mixer"] not in ("attention", "identity") or m["hourglass"] != 1)


# Fields of a model that only some use: elsewhere they are reset to their defaults, so that equal models have one id.
# A mixer from outside may use any.
_USED_IF: dict[str, Callable[[Mapping[str, Any]], bool]] = {
    "hourglass": _is_diffussm,
    "mixer": _is_diffussm,
    "residual": _is_diffussm,
    "scan": _has_an_order,
    "heads": _attends_or_is_outside,
    "state": _is_s4d_or_outside,
    "direction": _is_s4d_or_outside,
    "s4d_init": _is_s4d,
}

_OUTSIDE_TRAJECTORY = {
    "data": {"root"},
    "training": {"steps", "milestones", "threads", "backend"},
    "evaluation": set(EvaluationConfig.model_fields),
}


def resolve(base: str, overrides: Mapping[str, Any] | None = None) -> Config:
    """The config of base `base` with dotted-key overrides; raises UserError naming the field.

    `size` names a row of the base's table for the model's kind: depth, width and heads where no override sets them.
    """
    overrides = dict(overrides or {})
    recipe = dict(load_base(base))
    sizes = recipe.pop("sizes")
    size = overrides.pop("size", recipe.pop("size"))
    tree = changed(recipe, overrides)
    model = tree["model"]
    kind = model.get("kind", ModelConfig.model_fields["kind"].default)
    if str(kind) in sizes:
        if str(size) not in sizes[str(kind)]:
            raise unknown("size", str(size), sizes[str(kind)])
        tree["model"] = model = sizes[str(kind)][str(size)] | model
    whole = ModelConfig().model_dump() | model
    for name in [name for name, used in _USED_IF.items() if not used(whole)]:
        if f"model.{name}" in overrides:
            raise UserError(f"model.{name}: not used by {_what(whole)}")
        model.pop(name, None)
    evaluation = tree.get("evaluation", {})
    if evaluation.get("guidance", 1.0) == 1:
        if overrides.get("evaluation.guidance_channels"):
            raise UserError("evaluation.guidance_channels: not used without guidance (evaluation.guidance = 1)")
        evaluation.pop("guidance_channels", None)
    return validate(tree, base)


def changed(tree: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The sections of a config with dotted keys set; the tree itself stays as it is."""
    out = {name: dict(part) if isinstance(part, dict) else part for name, part in tree.items()}
    for key, value in overrides.items():
        section, field = split_key(key)
        if field is None:
            out[section] = value
        elif isinstance(part := out.setdefault(section, {}), dict):  # else it is refused when the config is made
            part[field] = value
    return out


def _what(m: Mapping[str, Any]) -> str:
    if m["kind"] == "dit":
        return "kind 'dit'"
    return f"mixer {m['mixer']!r} of kind {m['kind']!r} at hourglass = {m['hourglass']}"


@cache
def load_base(name: str) -> Mapping[str, Any]:
    """The recipe in `bases/<name>.toml` as nested dictionaries: config sections, and `size` and `sizes`."""
    if name not in bases():
        raise unknown("base", name, bases())
    return tomllib.loads((BASES / f"{name}.toml").read_text())


def bases() -> list[str]:
    return sorted(path.stem for path in BASES.glob("*.toml"))


def validate(tree: Mapping[str, Any], source: str) -> Config:
    """The tree as a Config; the first thing wrong becomes a UserError that names field, value and what is allowed."""
    try:
        config = Config.model_validate_json(json.dumps(tree))
    except (ValidationError, TypeError) as error:
        raise UserError(_describe(error, source)) from None
    _check_evaluation(config, source)
    return config


def _check_evaluation(config: Config, source: str) -> None:
    """What is asked must fit the run; apart from the schema, for a run's own file holds no evaluation."""
    e, timesteps = config.evaluation, config.diffusion.timesteps
    if e.sampler in SOLVERS and e.sampler_steps >= timesteps:
        raise UserError(
            f"{source}: evaluation.sampler_steps: {e.sampler_steps} is not below diffusion.timesteps = {timesteps}, "
            f"as {e.sampler} needs"
        )
    if e.sampler_steps > timesteps or (e.sampler == "ddim" and timesteps % e.sampler_steps):
        wrong = "does not divide" if e.sampler == "ddim" else "is above"
        raise UserError(
            f"{source}: evaluation.sampler_steps: {e.sampler_steps} {wrong} diffusion.timesteps = {timesteps}"
        )
    for name in e.metrics:
        if not config.model.classes and METRICS[name].needs_labels:
            raise UserError(f"{source}: evaluation.metrics: {name} needs model.classes > 0")
    if not config.model.classes and e.guidance != 1:
        raise UserError(f"{source}: evaluation.guidance: {e.guidance} needs model.classes > 0; 1 is none")
    if e.guidance_channels >= config.model.channels and e.guidance_channels:
        raise UserError(
            f"{source}: evaluation.guidance_channels: {e.guidance_channels} is not below "
            f"model.channels = {config.model.channels}; 0 guides all"
        )


@cache
def split_key(key: str) -> tuple[str, str | None]:
    """`section.field`, a top-level field or `size`, checked against the schema."""
    section, _, field = key.partition(".")
    if key == "size":
        return key, None
    if section not in Config.model_fields:
        raise unknown("config key", key, keys())
    part = Config.model_fields[section].annotation
    if isinstance(part, type) and issubclass(part, BaseModel):
        if field not in part.model_fields:
            raise unknown("config key", key, keys())
        return section, field
    if field:
        raise unknown("config key", key, keys())
    return section, None


def keys() -> list[str]:
    """Every dotted key that an override may set."""
    out = ["size"]
    for name, info in Config.model_fields.items():
        part = info.annotation
        if isinstance(part, type) and issubclass(part, BaseModel):
            out += [f"{name}.{field}" for field in part.model_fields]
        else:
            out.append(name)
    return out


def parse_value(text: str) -> Any:
    """A value given on the command line: TOML where it parses as such, else the bare string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def parse_settings(given: Sequence[str]) -> dict[str, Any]:
    """`--set` options, `section.field=value`, as dotted keys and values; UserError for a wrong one."""
    out: dict[str, Any] = {}
    for setting in given:
        key, equals, value = setting.partition("=")
        if not equals:
            raise UserError(f"--set {setting}: give it as section.field=value")
        split_key(key)
        if key in out:
            raise UserError(f"--set {key}: given twice")
        out[key] = parse_value(value)
    return out


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


def request(config: Config) -> Request:
    """What the config asks of its run: milestones beyond the steps are dropped, the last step always is one."""
    steps = config.training.steps
    kept = {milestone for milestone in config.training.milestones if milestone < steps}
    return Request(steps=steps, milestones=tuple(sorted(kept | {steps})), evaluation=config.evaluation)


def _describe(error: ValidationError | TypeError, source: str) -> str:
    if isinstance(error, TypeError):  # a TOML date or time, which no field takes
        return f"{source}: {error}"
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return str(unknown(f"{source}: config key", where, set(keys()) - {"size"}))  # of bases alone
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error" and isinstance(first["input"], dict):  # between fields: the message names them
        return f"{source}: {where + '.' if where else ''}{message}"
    return f"{source}: {where} = {first['input']!r}: {message}"
