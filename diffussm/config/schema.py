"""The schema of a run: what is trained, on what, how, and how it is evaluated. Every default lives here.

This module loads no torch.
"""

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from diffussm.errors import unknown
from diffussm.metric_table import METRICS

TIMESTEP_FREQUENCIES = 256  # sinusoids of the timestep embedding

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
