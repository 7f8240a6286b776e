"""Extractors and references by name, and the evaluation key they make: known without torch, before anything runs."""

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from diffussm.config import Config
from diffussm.data.catalogue import CATALOGUE as DATA
from diffussm.errors import unknown
from diffussm.records import EvaluationKey

WEIGHTS = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class ExtractorFacts:
    weights: Path
    classifies: bool  # its logits are the data's classes


EXTRACTORS = {
    "digits-cnn": ExtractorFacts(WEIGHTS / "digits_cnn.safetensors", classifies=True),
}


def extractor_facts(name: str) -> ExtractorFacts:
    if name not in EXTRACTORS:
        raise unknown("evaluation.extractor", name, EXTRACTORS)
    return EXTRACTORS[name]


@cache
def weights_sha256(name: str) -> str:
    """The SHA-256 of the extractor's weights file."""
    return hashlib.sha256(extractor_facts(name).weights.read_bytes()).hexdigest()


def evaluation_key(config: Config) -> EvaluationKey:
    """How the config's evaluation measures; raises UserError for an unknown extractor or reference."""
    e = config.evaluation
    if e.reference not in DATA:
        raise unknown("evaluation.reference", e.reference, DATA)
    reference = DATA[e.reference]
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
        clip=e.clip,
        weights=e.weights,
        metrics=e.metrics,
        transform=config.data.transform,
    )
