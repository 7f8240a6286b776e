"""What each data set holds, known without loading it: no torch, no files."""

from dataclasses import dataclass

from diffussm.config import Config
from diffussm.errors import UserError, unknown


@dataclass(frozen=True)
class DataFacts:
    images: int
    image_size: int
    channels: int
    classes: int
    sha256: str  # of the images' bytes (N, C, H, W) and the labels' (N,) int64, in this order


CATALOGUE = {
    "digits": DataFacts(1797, 8, 1, 10, "0b7e9c3202d7bcd255d6a19a238d3743bf5e320ba74812a6679958a017c55382"),
}


def facts(name: str, field: str) -> DataFacts:
    """The facts of data set `name`, named by config field `field`."""
    if name not in CATALOGUE:
        raise unknown(field, name, CATALOGUE)
    return CATALOGUE[name]


def check_fit(config: Config) -> None:
    """Raise UserError where the model's image size, channels or classes are not those of the data."""
    known, model = facts(config.data.name, "data.name"), config.model
    for field in ("image_size", "channels"):
        if getattr(model, field) != getattr(known, field):
            raise UserError(
                f"model.{field} = {getattr(model, field)}: {config.data.name} has {field} {getattr(known, field)}"
            )
    if model.classes not in (0, known.classes):
        raise UserError(
            f"model.classes = {model.classes}: {config.data.name} has {known.classes}; allowed: that, or 0 for none"
        )
