"""Extractors that users trained: a file of weights that says what it is for and how it was made. No torch.

The file is in safetensors form, with the stamp of this package's files. Its metadata have a field `extractor`: JSON
with the fields of `OwnExtractor`.
"""

import functools
import json
from pathlib import Path
from typing import ClassVar

from pydantic import Field, ValidationError

from diffussm.config.schema import Count, Positive, Seed
from diffussm.errors import UserError
from diffussm.metrics.features.facts import ExtractorFacts
from diffussm.metrics.features.weights_file import WeightsFile
from diffussm.store.hashes import file_sha256
from diffussm.store.integrity.files import read_file
from diffussm.store.integrity.safetensors_header import LENGTH_BYTES, METADATA
from diffussm.store.integrity.stamp import DamagedFile
from diffussm.store.reading import StoredModel, describe_damage
from diffussm.store.records import OWN_CNN

SUFFIX = ".safetensors"
FIELD = "extractor"  # of the metadata
KIND = "extractor"  # in the stamp
NETWORK = "diffussm.metrics.features.small_cnn:SmallCNNFeatures"
TRAIN = "`diffussm extractor train DIR` makes one from a labelled prepared data set"


class Recipe(StoredModel):
    """How an extractor was trained."""

    data_digest: str = Field(description="of the prepared data set")
    transform: str = Field(description="of the prepared data set")
    images: Positive = Field(description="that it was trained on")
    epochs: float = Field(description="passes over them")
    batch: Positive
    shift: Count = Field(description="pixels by which images were shifted at most, at random")
    seed: Seed
    versions: dict[str, str]


class OwnExtractor(StoredModel):
    """What the metadata of an extractor's file say."""

    repair: ClassVar[str] = "train the extractor again, or restore the file"

    name: str = Field(description="of the data set, and -own-cnn")
    channels: Positive
    image_size: Positive
    classes: tuple[str, ...] = Field(description="names in the order of the labels")
    layers: dict[str, Positive] = Field(description="sizes by name")
    held_out_images: Positive
    held_out_accuracy: float
    recipe: Recipe


def read_own_extractor(path: Path) -> OwnExtractor:
    """Return what the file says about itself; raise UserError if it is missing, damaged or not an extractor's."""
    try:
        status = path.stat()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; {TRAIN}") from None
    return _read(path, status.st_ino, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _read(path: Path, *_version: int) -> OwnExtractor:
    content = read_file(path)
    origin = content.verified()
    length = int.from_bytes(content.bytes[:LENGTH_BYTES], "little")
    if origin.stamp is None or origin.stamp.kind != KIND:
        raise UserError(f"{path}: is not an extractor's weights; {TRAIN}")
    text = json.loads(bytes(content.bytes[LENGTH_BYTES : LENGTH_BYTES + length]))[METADATA].get(FIELD, "")
    try:
        return OwnExtractor.model_validate_json(text)
    except ValidationError as error:
        raise DamagedFile(path, f"its description: {describe_damage(error)}; {OwnExtractor.repair}") from None


def own_extractor_facts(file: str) -> ExtractorFacts:
    """Return the extractor in the file. Raises UserError that names the field, if there is none."""
    path = Path(file).expanduser()
    try:
        own = read_own_extractor(path)
    except UserError as error:
        raise UserError(f"evaluation.extractor = {error}") from None
    return ExtractorFacts(
        name=own.name,
        network=NETWORK,
        weights=WeightsFile(path.name, file_sha256(path), "`diffussm extractor train`", path),
        channels=own.channels,
        image_size=own.image_size,
        data=own.name.removesuffix(OWN_CNN),
        classifies=True,
        scores=True,
        spatial="spatial",
        logits="logits",
        batch=500 if own.image_size <= 32 else 125,
        classes=len(own.classes),
        class_names=own.classes,
        sizes=" ".join(f"{layer}={size}" for layer, size in own.layers.items()),
        data_digest=own.recipe.data_digest,
    )
