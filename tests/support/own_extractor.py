"""A prepared data set of digits, and an extractor trained on it for a moment."""

from pathlib import Path

from diffussm.data.load import reference_images
from diffussm.data.prepared.reader import PreparedImages
from diffussm.metrics.features.own_file import OwnExtractor
from diffussm.metrics.features.train_own import train, write
from tests.support.prepared_set import write_prepared

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def prepared_digits(folder: Path, count: int = 200) -> PreparedImages:
    images = reference_images("digits")
    write_prepared(folder, images.pixels[:count], images.labels[:count], NAMES)
    return PreparedImages(folder)


def trained_extractor(folder: Path, out: Path, epochs: float = 2, count: int = 200) -> OwnExtractor:
    """Write digits as a prepared data set to `folder`, and an extractor of them to `out`."""
    model, own = train(prepared_digits(folder, count), folder.name, epochs, 0, lambda *_: None)
    write(out, model, own)
    return own
