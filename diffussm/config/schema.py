"""The schema of a run: what is trained, on what, how, and how it is evaluated. Every default lives here.

This module loads no torch.
"""

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema, model_validator

from diffussm.errors import unknown
from diffussm.metric_table import METRICS

TIMESTEP_FREQUENCIES = 256  # sinusoids of the timestep embedding

MIXERS = ("s4d", "attention", "identity")
Backend = Literal["reference", "fft", "chunked", "compiled"]  # of S4D
BACKEND_NAMES: tuple[str, ...] = get_args(Backend)

SHA256_OR_EMPTY = r"^([0-9a-f]{64})?$"
Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]  # a key of the random generators, which NumPy takes exactly up to there


EXTERNAL_CLASS = r"[A-Za-z_][\w.]*:[A-Za-z_]\w*"


def is_external(name: Any) -> bool:
    """Return whether a mixer or a data set is an external class, given as `package.module:Class`."""
    return isinstance(name, str) and ":" in name


def _check_mixer(name: str) -> str:
    if name not in MIXERS and not re.fullmatch(EXTERNAL_CLASS, name):
        raise ValueError(str(unknown("", name, MIXERS, "package.module:Class")).removeprefix(": "))
    return name


MixerName = Annotated[
    str,
    AfterValidator(_check_mixer),
    WithJsonSchema({"anyOf": [{"enum": list(MIXERS)}, {"type": "string", "pattern": ":"}]}),
]


def _check_data_name(name: str) -> str:
    if not re.fullmatch(rf"{EXTERNAL_CLASS}|\w[\w.-]{{0,79}}", name):  # it begins the run id
        raise ValueError("allowed: up to 80 letters, digits and _ - . only, or package.module:Class")
    return name


DataName = Annotated[str, AfterValidator(_check_data_name)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class ModelConfig(Section):
    """The network."""

    kind: Literal["diffussm", "dit"] = Field(
        "diffussm", description="the architecture: DiffuSSM, or DiT (Peebles and Xie 2023)"
    )
    depth: Positive = Field(2, description="number of blocks")
    # The position embedding has a sine and a cosine for each of two axes.
    width: int = Field(64, ge=4, multiple_of=4, description="D, features of a token")
    heads: Positive = Field(1, description="attention heads of DiT and of the mixer attention")
    hourglass: Positive = Field(
        1, description="M, the factor by which the sequence is shorter in the dense layers than in the mixer; 1: none"
    )
    patch: Positive = Field(1, description="P, side in pixels of the square patch that becomes one token")
    mixer: MixerName = Field(
        "s4d",
        description="what mixes along the sequence in a DiffuSSM block: one of the package's, or package.module:Class",
    )
    direction: Literal["bidirectional", "forward"] = Field(
        "bidirectional", description="bidirectional: one S4D layer runs each way; forward: both run from left to right"
    )
    residual: Literal["short", "full"] = Field(
        "short",
        description="length of the residual stream: short, L/M as in the paper's equations; full, L as in its Figure 2",
    )
    scan: Literal["raster", "serpentine", "hilbert"] = Field(
        "raster", description="the order in which the sequence visits the tokens of the image"
    )
    state: int = Field(64, ge=2, multiple_of=2, description="N, real state size of S4D: N/2 conjugate pairs are stored")
    s4d_init: Literal["lin", "inv", "real"] = Field(
        "lin", description="initial values of S4D's matrix A: S4D-Lin, S4D-Inv or S4D-Real (Gu et al. 2022)"
    )
    image_size: Positive = Field(8, description="side in pixels of the square images, or of their latents")
    channels: Positive = Field(1, description="C, channels of an image")
    classes: Count = Field(0, description="number of classes; 0: unconditional")

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
    """The training set."""

    name: DataName = Field(
        "digits",
        description="the data set: an embedded one (such as digits), package.module:Class, or any other name for a "
        "prepared one",
    )
    digest: str = Field(
        "",
        pattern=SHA256_OR_EMPTY,
        description="SHA-256 of what training reads of the data set; empty: filled in when the run is planned",
    )
    flip: bool = Field(
        False, description="whether each image is flipped, left to right, with probability 1/2 when it is trained on"
    )
    # What follows does not change the trajectory.
    root: str = Field(
        "", description="the folder of the prepared data set; empty, or where it is not there: $DIFFUSSM_DATA/<name>"
    )
    # Of a prepared data set, filled in when the run is planned.
    transform: str = Field("none", description="what was done to the images of the prepared data set")
    decoded_size: Count = Field(0, description="side in pixels of the images that latents decode to; 0: no latents")
    scale: tuple[float, ...] = Field(
        (), description="of latents: the network sees (latent - shift) x scale; one value, or one per channel"
    )
    shift: tuple[float, ...] = Field((), description="of latents: see data.scale")
    vae_range: tuple[float, ...] = Field((-1.0, 1.0), description="of latents: the autoencoder's black and white")
    vae_sha256: str = Field(
        "", pattern=SHA256_OR_EMPTY, description="of latents: SHA-256 of the autoencoder; empty: unknown"
    )
    baked: tuple[str, ...] = Field((), description="of latents: what is the same in each epoch, as they are stored")


LATENT_FIELDS = ("decoded_size", "scale", "shift", "vae_range", "vae_sha256", "baked")  # of the data, if it is latents


class DiffusionConfig(Section):
    """The diffusion process and its loss."""

    # At 20 the last beta of the linear schedule would be 1.
    timesteps: int = Field(
        1000,
        ge=21,
        description="T, steps of the forward process; its betas lie at equal distances, from 1e-4 to 0.02 at T = 1000",
    )
    learned_variance: bool = Field(
        True, description="whether the network predicts the variance of the reverse process too"
    )
    loss: Literal["hybrid", "simple"] = Field(
        "hybrid",
        description="simple: error of the noise; hybrid: also the variational bound (Nichol and Dhariwal 2021)",
    )
    normal_cdf: Literal["exact", "tanh"] = Field(
        "exact",
        description="distribution function in the hybrid loss of step 0; ADM and DiT train with the tanh approximation",
    )

    @model_validator(mode="after")
    def _loss_has_its_parts(self) -> Self:
        if (self.loss == "hybrid") != self.learned_variance:
            raise ValueError("loss: hybrid needs learned_variance = true, simple needs false")
        if self.loss == "simple" and self.normal_cdf != "exact":
            raise ValueError("normal_cdf: used by loss = hybrid alone")
        return self


class TrainingConfig(Section):
    """Optimisation, and how long and on what it runs."""

    batch: Positive = Field(128, description="images in a training step, over all processes together")
    lr: float = Field(1e-4, gt=0, description="learning rate of AdamW, constant")
    ssm_lr_scale: float = Field(
        1.0, ge=0, description="factor on the learning rate for the parameters of state-space layers"
    )
    weight_decay: float = Field(
        0.0, ge=0, description="weight decay of AdamW; parameters of state-space layers have none"
    )
    ema: float = Field(0.9999, ge=0, lt=1, description="decay of the moving average of the weights")
    label_dropout: float = Field(
        0.1, ge=0, lt=1, description="probability of training an image without its class, for classifier-free guidance"
    )
    precision: Literal["float32", "bf16"] = Field(
        "float32", description="float32, or autocast to bfloat16 with weights in float32"
    )
    # What follows does not change the trajectory.
    steps: Positive = Field(1, description="number of training steps; a larger number later extends the same run")
    milestones: tuple[Positive, ...] = Field(
        (), description="steps at which the weights are kept and evaluated; the last step always is one"
    )
    threads: Count = Field(0, description="threads of torch on the CPU; 0: all cores")
    backend: Literal["auto", Backend] = Field(
        "auto", description="how S4D is computed; auto: by the fastest backend that runs here"
    )


SOLVERS = ("dpm-solver++", "unipc")  # the samplers that Diffusers brings


if TYPE_CHECKING:
    MetricName = str
else:
    MetricName = Literal[tuple(METRICS)]


class EvaluationConfig(Section):
    """How samples are made and measured; not part of the run id."""

    extractor: str = Field(
        "digits-cnn",
        description="network whose features are compared: one of the package's, package.module:NAME, or a .safetensors "
        "file of `diffussm extractor train`",
    )
    extractor_weights: str = Field(
        "",
        description="weights file of the extractor, or a folder of files under their published names; "
        "empty: $DIFFUSSM_WEIGHTS",
    )
    extractor_weights_sha256: str = Field(
        "",
        pattern=SHA256_OR_EMPTY,
        description="SHA-256 of the weights of an extractor package.module:NAME or of its file; empty: as when it is "
        "requested",
    )
    vae: str = Field("", description="folder of Diffusers' autoencoder that decodes latents; empty: $DIFFUSSM_VAE")
    vae_sha256: str = Field(
        "",
        pattern=SHA256_OR_EMPTY,
        description="SHA-256 that it must have; empty: that of the one which encoded the data, or as when requested",
    )
    samples: int = Field(1000, ge=2, description="number of samples to generate and measure")
    batch: Positive = Field(250, description="samples generated and measured at a time")
    reference: str = Field(
        "digits",
        description="what samples are measured against: a data set, or an .npz file in the format of ADM's evaluator",
    )
    reference_file_sha256: str = Field(
        "",
        pattern=SHA256_OR_EMPTY,
        description="SHA-256 that the reference file must have; empty: that of the file as it is when it is requested",
    )
    sampler: Literal["ddim", "ddpm", "dpm-solver++", "unipc"] = Field(
        "ddim", description="DDIM without noise, DDPM, or a solver of Diffusers'"
    )
    sampler_steps: Positive = Field(25, description="number of steps of the sampler")
    guidance: float = Field(1.0, ge=0, description="scale of classifier-free guidance; 1: none")
    guidance_channels: Count = Field(0, description="number of channels, from the first, whose noise is guided; 0: all")
    labels: Literal["random", "balanced"] = Field(
        "random",
        description="classes of the samples: random, drawn uniformly; balanced, equally many of each (within one)",
    )
    clip: bool = Field(
        True, description="clamp predicted images to [-1, 1] at each step: right for pixels, wrong for latents"
    )
    metrics: tuple[MetricName, ...] = Field(("fid",), min_length=1, description="the metrics to compute")
    weights: Literal["ema", "raw"] = Field(
        "ema", description="ema: the moving average of the weights; raw: the weights as trained"
    )


class Config(Section):
    """One run."""

    seed: Seed = Field(0, description="seed of every random draw: initial values, order of the data, noise, samples")
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    diffusion: DiffusionConfig = DiffusionConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @property
    def outputs(self) -> int:
        """Channels of the network's output: noise, and variance where it is learned."""
        return self.model.channels * (2 if self.diffusion.learned_variance else 1)
