"""Data sets by name: the training data, and the reference, whose content is checked against the catalogue."""

from collections.abc import Callable

from diffussm.config import DataConfig, is_external
from diffussm.data import digits, mnist, photos
from diffussm.data.catalogue import facts, missing_reference
from diffussm.data.checked import CheckedData
from diffussm.data.images import Flipped, HeldImages, Images, IndexedImages, Shuffled, TrainingData
from diffussm.data.lookup.external import data_class
from diffussm.data.lookup.facts import find_required
from diffussm.data.prepared.latents import Decode, DecodedLatents, LatentTraining, PreparedLatents
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


def training_data(data: DataConfig) -> TrainingData:
    """Return the training data of a config, whose images are mirrored at random if it says so.

    Raises UserError if they must be provided first, or have another digest than the config states.
    """
    known = find_required(data)
    if known.folder and known.decoded:
        return LatentTraining(PreparedLatents(known.folder), data.flip)
    if known.folder:
        made: TrainingData = Shuffled(PreparedImages(known.folder))
    elif is_external(data.name):
        made = CheckedData(data_class(data.name)(data), known, data.name)
    else:
        made = _TRAINING[data.name]()
    return Flipped(made) if data.flip else made


def training_images(data: DataConfig, decode: Decode | None = None) -> IndexedImages | None:
    """Return the images that a config trains on, as they are stored; None if there is no finite number of them.

    Of latents these are the decoded means of the posteriors, or samples; None without `decode`, which makes pixels of
    latents as the network sees them. Raises as `training_data`.
    """
    known = find_required(data)
    if known.folder and known.decoded:
        return DecodedLatents(PreparedLatents(known.folder), decode) if decode else None
    made = training_data(data.model_copy(update={"flip": False}))
    return made.images if isinstance(made, Shuffled) else None


def is_embedded(name: str) -> bool:
    """Return whether the images of data set `name` come with the program, and are held in memory."""
    return name in _TRAINING


def reference_images(name: str) -> Images:
    """Return the reference of data set `name`; raise UserError if it is unknown, must be provided first, or has another
    content than the catalogue says."""
    field = "evaluation.reference"
    if missing := missing_reference(name, field):
        raise UserError(missing)
    images, expected = _REFERENCES[name](), facts(name, field).sha256
    if (found := images.sha256) != expected:
        raise UserError(
            f"{field} = {name}: the installed data has sha256 {found[:12]}..., expected {expected[:12]}...; "
            "another version of the package that ships it may have other images"
        )
    return images
