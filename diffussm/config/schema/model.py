"""The network."""

import re
from typing import Annotated, Literal, Self, get_args

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from diffussm.config.schema.types import EXTERNAL_CLASS, Count, Positive, Section
from diffussm.errors import unknown

TIMESTEP_FREQUENCIES = 256  # sinusoids of the timestep embedding

MIXERS = ("s4d", "attention", "identity")
Backend = Literal["reference", "fft", "chunked", "compiled"]  # of S4D
BACKEND_NAMES: tuple[str, ...] = get_args(Backend)


def _check_mixer(name: str) -> str:
    if name not in MIXERS and not re.fullmatch(EXTERNAL_CLASS, name):
        raise ValueError(str(unknown("", name, MIXERS, "package.module:Class")).removeprefix(": "))
    return name


MixerName = Annotated[
    str,
    AfterValidator(_check_mixer),
    WithJsonSchema({"anyOf": [{"enum": list(MIXERS)}, {"type": "string", "pattern": ":"}]}),
]


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
