"""The registry of feature extractors, known without torch before anything runs."""

import importlib
from pathlib import Path

from diffussm.config import is_extractor_file
from diffussm.errors import UserError, unknown
from diffussm.metrics.features.facts import ExtractorFacts
from diffussm.metrics.features.own_file import own_extractor_facts
from diffussm.metrics.features.weights_file import INCEPTION, WeightsFile

__all__ = ["EXTRACTORS", "ExtractorFacts", "check_shape", "extractor_facts", "register", "shape_mismatch"]

SHIPPED = Path(__file__).parents[1] / "weights"


def _small(data: str, sha256: str, channels: int, image_size: int, classifies: bool) -> ExtractorFacts:
    return ExtractorFacts(
        name=f"{data}-cnn",
        network="diffussm.metrics.features.small_cnn:SmallCNNFeatures",
        weights=WeightsFile(
            f"{data}_cnn.safetensors",
            sha256,
            f"this package (diffussm.metrics.features.train_small_cnn {data}-cnn)",
            SHIPPED / f"{data}_cnn.safetensors",
        ),
        channels=channels,
        image_size=image_size,
        data=data,
        classifies=classifies,
        scores=classifies,
        spatial="spatial",
        logits="logits",
    )


EXTRACTORS: dict[str, ExtractorFacts] = {}


def register(extractor: ExtractorFacts) -> None:
    """Register an extractor under its name; raise UserError if another one has that name."""
    if EXTRACTORS.setdefault(extractor.name, extractor) != extractor:
        raise UserError(f"extractor {extractor.name}: another extractor has this name; choose a different one")


for own_extractor in (
    _small("digits", "46524b1c25f8ae1f77a9d2426d9fb41e65c5f32335257a14ae2f3c2df2bf39fb", 1, 8, True),
    _small("digits16", "c1f0e07506a8bd1da33be7ab9416f9a23a2c99a148a506f79c669fe2c4bbd9e5", 1, 16, True),
    _small("mnist", "252dff993fdf3ab010de81402be66c7346a864cb06cd2cdcbe036949c3c4bb37", 1, 28, True),
    _small("photos", "10ed88524a1330f944d80f7e8d80266dd4557948e2c61c57b427fb05c610c68f", 3, 32, False),
    ExtractorFacts(
        name="inception-v3-compat",
        network="diffussm.metrics.features.inception:Inception",
        weights=INCEPTION,
        channels=3,
        image_size=None,
        data="natural images",
        scores=True,
        features="2048",
        spatial="spatial",
        logits="logits_unbiased",
        batch=50,
    ),
):
    register(own_extractor)


def extractor_facts(name: str) -> ExtractorFacts:
    """Return the extractor of this name, in this file or, from another package, the ExtractorFacts at
    `package.module:NAME`."""
    if name in EXTRACTORS:
        return EXTRACTORS[name]
    if is_extractor_file(name):
        return own_extractor_facts(name)
    module, colon, attribute = name.partition(":")
    if not colon:
        raise unknown("evaluation.extractor", name, EXTRACTORS, "a .safetensors file, or package.module:NAME")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # an external module may raise anything on import
        raise UserError(f"evaluation.extractor = {name}: {type(error).__name__}: {error}") from None
    if not isinstance(found, ExtractorFacts):
        raise UserError(f"evaluation.extractor = {name}: is a {type(found).__name__}, expected an ExtractorFacts")
    return found


def check_shape(field: str, extractor: ExtractorFacts, shape: tuple[int, int]) -> None:
    """Raise UserError if the extractor does not accept images of `shape` (channels, pixels per side)."""
    if not accepts(extractor, shape):
        raise UserError(extractor_mismatch(field, extractor, shape))


def accepts(extractor: ExtractorFacts, shape: tuple[int, int]) -> bool:
    """Return whether the extractor takes images of `shape`. One channel always will do: grey images are repeated."""
    return shape[1] == (extractor.image_size or shape[1]) and shape[0] in (extractor.channels, 1)


def extractor_mismatch(field: str, extractor: ExtractorFacts, shape: tuple[int, int]) -> str:
    """Return the message for images of `shape` that the extractor does not take."""
    return shape_mismatch(field, (extractor.channels, extractor.image_size or shape[1]), shape)


def shape_mismatch(field: str, expected: tuple[int, int], shape: tuple[int, int]) -> str:
    """Return the message for images of `shape` (channels, pixels per side) where others are expected."""
    accepted, given = (f"{channels} x {side} x {side}" for channels, side in (expected, shape))
    return f"{field}: is for {accepted} images, but these are {given}"
