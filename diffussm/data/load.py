"""Data sets by name: the training data, and the reference, whose content is checked against the catalogue."""

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
    """Return the training data of data set `name`; raise UserError if it is unknown or must be provided first."""
    _check_requirements(name, "data.name")
    return _TRAINING[name]()


def reference_images(name: str) -> Images:
    """Return the reference of data set `name`; raise UserError if it is unknown, must be provided first, or has another
    content than the catalogue says."""
    field = "evaluation.reference"
    _check_requirements(name, field)
    images, expected = _REFERENCES[name](), facts(name, field).sha256
    if (found := images.sha256) != expected:
        raise UserError(
            f"{field} = {name}: the installed data has sha256 {found[:12]}..., expected {expected[:12]}...; "
            "another version of scikit-learn may have other images"
        )
    return images


def _check_requirements(name: str, field: str) -> None:
    if missing := missing_data(name, field):
        raise UserError(missing)
