"""Facts about each data set that are known without loading it. No torch, no files."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from diffussm.errors import UserError, unknown

if TYPE_CHECKING:
    from diffussm.data.prepared.manifest import Flips, LatentFacts


@dataclass(frozen=True)
class DataFacts:
    """Facts about a data set.

    `images` and `sha256` of an embedded one are those of its reference, hashed as the bytes of its pixels (N, C, H, W)
    followed by those of its labels (N,) int64; of a prepared one those of what is trained on, by its manifest.
    """

    images: int
    image_size: int
    channels: int
    classes: int  # 0: unconditional
    sha256: str = ""
    decoded: tuple[int, int] | None = None  # (channels, pixels per side) of the images that latents decode to
    transform: str = "none"  # applied to its images, for training and in a reference; empty: unknown
    missing_requirement: str = ""  # what the user must provide first; "" if nothing
    class_names: tuple[str, ...] = ()  # in the order of the labels; empty: they have only numbers
    folder: Path | None = None  # of a prepared data set
    latents: "LatentFacts | None" = None  # of a prepared data set
    flips: "Flips" = "none"  # of latents: whether they are stored mirrored too


PICKLES = (".pkl", ".pickle")
IS_PICKLE = (
    "is a pickle, as EDM2's references are, which is not loaded because it can run any program; make an .npz with "
    "`diffussm reference build`, or from the mean and covariance in it as arrays mu and sigma"
)

CATALOGUE = {
    "digits": DataFacts(1797, 8, 1, 10, "0b7e9c3202d7bcd255d6a19a238d3743bf5e320ba74812a6679958a017c55382"),
    # Its pixels are interpolated from those of digits; it stays for runs of before there was mnist.
    "digits16": DataFacts(1797, 16, 1, 10, "93d84264ffe7f863aa54b4e89d8b18740f25b03fd226ffcc7248a15557f4ede1"),
    "mnist": DataFacts(5000, 28, 1, 10, "1f75c140503b3082c96134f5593303f3133e59989a92e21f060c644c655c3722"),
    "photos": DataFacts(2048, 32, 3, 0, "8bcde3aae5a9c0841943093e6c3356bcce4e9b8d0bb0478df725205c5e570954"),
}


def facts(name: str, field: str) -> DataFacts:
    """Return the facts of data set `name`; UserError names the config field `field` if it is unknown."""
    if name.lower().endswith(PICKLES):
        raise UserError(f"{field} = {name}: {IS_PICKLE}")
    if name not in CATALOGUE:
        raise unknown(field, name, CATALOGUE)
    return CATALOGUE[name]


def missing_reference(name: str, field: str) -> str:
    """Return what the user must provide before the reference of data set `name` can be used, in a line that names the
    field; "" if nothing."""
    missing = facts(name, field).missing_requirement
    return f"{field} = {name}: needs {missing}" if missing else ""
