"""Extractors and references by name, and the evaluation key they make: known without torch, before anything runs."""

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from diffussm.config import SOLVERS, Config
from diffussm.data.catalogue import facts, lacking
from diffussm.errors import UserError, unknown
from diffussm.records import EvaluationKey

WEIGHTS = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class ExtractorFacts:
    """What a shipped network takes and tells apart."""

    weights: Path
    channels: int
    image_size: int
    classes: int
    data: str  # the data set that it was made for
    classifies: bool  # its classes are that data's


EXTRACTORS = {
    "digits-cnn": ExtractorFacts(WEIGHTS / "digits_cnn.safetensors", 1, 8, 10, "digits", classifies=True),
    "digits16-cnn": ExtractorFacts(WEIGHTS / "digits16_cnn.safetensors", 1, 16, 10, "digits16", classifies=True),
    "photos-cnn": ExtractorFacts(WEIGHTS / "photos_cnn.safetensors", 3, 32, 8, "photos", classifies=False),
}


def extractor_facts(name: str) -> ExtractorFacts:
    if name not in EXTRACTORS:
        raise unknown("evaluation.extractor", name, EXTRACTORS)
    return EXTRACTORS[name]


@cache
def weights_sha256(name: str) -> str:
    """The SHA-256 of the extractor's weights file."""
    return hashlib.sha256(extractor_facts(name).weights.read_bytes()).hexdigest()


def config_lacks(config: Config) -> str:
    """What the config's run needs before it can be made, in a line that names the field; empty where all is there."""
    e = config.evaluation
    lacks = lacking(config.data.name, "data.name") or lacking(e.reference, "evaluation.reference")
    if not lacks and e.sampler in SOLVERS and not find_spec("diffusers"):
        return f"evaluation.sampler = {e.sampler}: needs Diffusers, the extra `samplers`"
    return lacks


def evaluation_key(config: Config) -> EvaluationKey:
    """How the config's evaluation measures; raises UserError for what is unknown or does not fit the images."""
    e, m = config.evaluation, config.model
    reference, extractor = facts(e.reference, "evaluation.reference"), extractor_facts(e.extractor)
    for field, takes in ((f"reference = {e.reference}", reference), (f"extractor = {e.extractor}", extractor)):
        repeated = takes is extractor and m.channels == 1  # grey images repeat where an extractor wants three channels
        if takes.image_size != m.image_size or takes.channels != (takes.channels if repeated else m.channels):
            raise UserError(
                f"evaluation.{field}: for {takes.channels} channels of {takes.image_size} pixels a side, "
                f"not {m.channels} of {m.image_size}"
            )
    if "label_accuracy" in e.metrics and not extractor.classifies:
        raise UserError(f"evaluation.metrics: label_accuracy needs a classifier, {e.extractor} is none")
    return EvaluationKey(
        extractor=e.extractor,
        extractor_sha256=weights_sha256(e.extractor),
        reference=e.reference,
        reference_sha256=reference.sha256,
        reference_samples=reference.images,
        samples=e.samples,
        sampler=e.sampler,
        sampler_steps=e.sampler_steps,
        guidance=e.guidance,
        guidance_channels=e.guidance_channels,
        clip=e.clip,
        weights=e.weights,
        metrics=e.metrics,
        transform=config.data.transform,
    )
