"""Data sets by name: what trains, and the reference, its content checked against the catalogue."""

from collections.abc import Callable

from diffussm.data import digits, photos
from diffussm.data.catalogue import facts, missing_data
from diffussm.data.images import Images, Shuffled, TrainingData
from diffussm.errors import UserError

_TRAINING: dict[str, Callable[[], TrainingData]] = {
    "digits": lambda: Shuffled(digits.load()),
    "digits16": lambda: Shuffled(digits.load_16()),
    "photos": lambda: photos.Crops(training=True),
}
_REFERENCES: dict[str, Callable[[], Images]] = {
    "digits": digits.load,
    "digits16": digits.load_16,
    "photos": photos.reference,
}


def training_data(name: str) -> TrainingData:
    """What data set `name` trains on; UserError if it is unknown or lacks something."""
    _check_requirements(name, "data.name")
    return _TRAINING[name]()


def reference_images(name: str) -> Images:
    """The reference of data set `name`; UserError if it is unknown, lacks something or is not the known content."""
    field = "evaluation.reference"
    _check_requirements(name, field)
    images = _REFERENCES[name]()
    if images.sha256 != facts(name, field).sha256:
        raise UserError(f"{field} = {name}: the installed data is not the known one (sha256 {images.sha256[:12]}...)")
    return images


def _check_requirements(name: str, field: str) -> None:
    if missing := missing_data(name, field):
        raise UserError(missing)
