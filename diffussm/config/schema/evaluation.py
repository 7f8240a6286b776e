"""How samples are made and measured."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from diffussm.config.schema.types import SHA256_OR_EMPTY, Count, Positive, Section
from diffussm.metric_table import METRICS

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
        "ddim", description="DDIM, DDPM, or a solver of Diffusers'"
    )
    sampler_steps: Positive = Field(25, description="number of steps of the sampler")
    ddim_eta: float = Field(
        0.0, ge=0, le=1, description="noise that DDIM adds: 0 none, 1 as much as DDPM with the posterior's variance"
    )
    precision: Literal["float32", "tf32", "bf16"] = Field(
        "float32",
        description="what the network computes samples in, as training.precision; with bf16, what stays in float32 is "
        "rounded to TF32 on GPUs",
    )
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
