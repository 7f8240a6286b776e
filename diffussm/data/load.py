"""Data sets by name: the training data, and the reference, whose content is checked against the catalogue."""

from collections.abc import Callable
from pathlib import Path

from diffussm.data import digits, mnist, photos
from diffussm.data.catalogue import facts, missing_data
from diffussm.data.images import Flipped, HeldImages, Images, Shuffled, TrainingData
from diffussm.data.prepared.reader import PreparedImages
from diffussm.errors import UserError

_TRAINING: dict[str, Callable[[], TrainingData]] = {
    "digits": lambda: Shuffled(HeldImages(digits.load())),
    "digits16": lambda: Shuffled(HeldImages(digits.load_16())),
    "mnist": lambda: Shuffled(HeldImages(mnist.load())),
    "photos": lambda: photos.Crops(training=True),
}
_REFERENCES: dict[str, Callable[[], Images]] = {
    "digits": digits.load,
    "digits16": digits.load_16,
    "mnist": mnist.load,
    "photos": photos.reference,
}


def training_data(name: str, folder: Path | None = None, digest: str = "", flip: bool = False) -> TrainingData:
    """Return the training data of data set `name`, whose images are mirrored at random if `flip`.

    A prepared data set is read from `folder`. Raises UserError if the data set is unknown, must be provided first, or,
    where a `digest` is given, has another content.
    """
    if folder:
        data: TrainingData = Shuffled(_prepared(folder, digest))
    else:
        _check_requirements(name, "data.name")
        data = _TRAINING[name]()
    return Flipped(data) if flip else data


def is_embedded(name: str) -> bool:
    """Return whether the images of data set `name` come with the program, and are held in memory."""
    return name in _TRAINING


def reference_images(name: str) -> Images:
    """Return the reference of data set `name`; raise UserError if it is unknown, must be provided first, or has another
    content than the catalogue says."""
    field = "evaluation.reference"
    _check_requirements(name, field)
    images, expected = _REFERENCES[name](), facts(name, field).sha256
    if (found := images.sha256) != expected:
        raise UserError(
            f"{field} = {name}: the installed data has sha256 {found[:12]}..., expected {expected[:12]}...; "
            "another version of the package that ships it may have other images"
        )
    return images


def _check_requirements(name: str, field: str) -> None:
    if missing := missing_data(name, field):
        raise UserError(missing)


def _prepared(folder: Path, digest: str) -> PreparedImages:
    images = PreparedImages(folder)
    if digest not in ("", images.sha256):
        raise UserError(
            f"{folder}: holds other images than the run's: its digest is {images.sha256[:12]}..., data.digest = "
            f"{digest[:12]}...; set data.root to the folder of the run's data set, or start another run"
        )
    return images
