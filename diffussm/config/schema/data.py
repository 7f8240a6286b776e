"""The training set."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from diffussm.config.schema.types import EXTERNAL_CLASS, SHA256_OR_EMPTY, Count, Section


def _check_data_name(name: str) -> str:
    if not re.fullmatch(rf"{EXTERNAL_CLASS}|\w[\w.-]{{0,79}}", name):  # it begins the run id
        raise ValueError("allowed: up to 80 letters, digits and _ - . only, no spaces, or package.module:Class")
    return name


DataName = Annotated[str, AfterValidator(_check_data_name)]


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
