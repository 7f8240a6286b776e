"""Facts about each data set that are known without loading it. No torch, no files."""

from dataclasses import dataclass

from diffussm.config import Config
from diffussm.errors import UserError, unknown


@dataclass(frozen=True)
class DataFacts:
    """Facts about a data set. `images` and `sha256` are those of the reference set, hashed as the bytes of its pixels
    (N, C, H, W) followed by those of its labels (N,) int64."""

    images: int
    image_size: int
    channels: int
    classes: int  # 0: unconditional
    sha256: str = ""
    decoded: tuple[int, int] | None = None  # (channels, pixels per side) of the images that latents decode to
    transform: str = "none"  # applied to its images, for training and in a reference
    missing_requirement: str = ""  # what the user must provide first; "" for embedded data


LATENTS = "latents of Stable Diffusion's VAE, for which this version has no loader"

CATALOGUE = {
    "digits": DataFacts(1797, 8, 1, 10, "0b7e9c3202d7bcd255d6a19a238d3743bf5e320ba74812a6679958a017c55382"),
    # Its pixels are interpolated from those of digits; it stays for runs of before there was mnist.
    "digits16": DataFacts(1797, 16, 1, 10, "93d84264ffe7f863aa54b4e89d8b18740f25b03fd226ffcc7248a15557f4ede1"),
    "mnist": DataFacts(5000, 28, 1, 10, "1f75c140503b3082c96134f5593303f3133e59989a92e21f060c644c655c3722"),
    "photos": DataFacts(2048, 32, 3, 0, "8bcde3aae5a9c0841943093e6c3356bcce4e9b8d0bb0478df725205c5e570954"),
    "imagenet256-latents": DataFacts(
        1_281_167,
        32,
        4,
        1000,
        decoded=(3, 256),
        transform="centre-crop 256",
        missing_requirement=f"ImageNet as 32 x 32 {LATENTS}",
    ),
}


def facts(name: str, field: str) -> DataFacts:
    """Return the facts of data set `name`; UserError names the config field `field` if it is unknown."""
    if name not in CATALOGUE:
        raise unknown(field, name, CATALOGUE)
    return CATALOGUE[name]


def check_fit(config: Config) -> None:
    """Raise UserError if the model's image size, channels or classes differ from those of the data."""
    known, model = facts(config.data.name, "data.name"), config.model
    for field in ("image_size", "channels"):
        if getattr(model, field) != getattr(known, field):
            raise UserError(
                f"model.{field} = {getattr(model, field)}: {config.data.name} has {field} {getattr(known, field)}"
            )
    if model.classes not in (0, known.classes):
        allowed = f"{known.classes}; allowed: {known.classes}, or 0 for none" if known.classes else "none; allowed: 0"
        raise UserError(f"model.classes = {model.classes}: {config.data.name} has {allowed}")


def missing_data(name: str, field: str) -> str:
    """Return what the user must provide before data set `name` can be used, in a line that names the field; "" if
    nothing."""
    missing = facts(name, field).missing_requirement
    return f"{field} = {name}: needs {missing}" if missing else ""
