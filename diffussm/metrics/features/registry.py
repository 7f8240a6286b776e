"""Extractors and references by name, and the evaluation key they make: known without torch, before anything runs."""

import importlib
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from diffussm.config import SOLVERS, Config, EvaluationConfig
from diffussm.data.catalogue import facts, missing_data
from diffussm.errors import UserError, unknown
from diffussm.metric_table import CLEAN_FID as CLEAN_FID_METRICS
from diffussm.metric_table import METRICS, Metric
from diffussm.metrics.features.weights_file import CLEAN_FID, INCEPTION, WeightsFile
from diffussm.metrics.reference.file import STATISTICS, ReferenceFile, is_file
from diffussm.store.records import EvaluationKey

SHIPPED = Path(__file__).parents[1] / "weights"


@dataclass(frozen=True)
class ExtractorFacts:
    """A network whose features are compared, as torch-fidelity's interface has it.

    `network` is the `package.module:Class` of a torch_fidelity.FeatureExtractorBase, made with
    (`name`, layers, feature_extractor_weights_path=weights), that takes uint8 images (B, C, H, W) and gives the layers
    by their names. Where it has no spatial layer, or no logits, what needs them is refused.
    """

    name: str
    network: str
    weights: WeightsFile
    channels: int
    image_size: int | None  # None: takes any, and resizes by itself
    data: str  # the data set that it was made for
    classifies: bool = False  # its classes are that data's, by the same numbers
    scores: bool = False  # its class probabilities mean something to an Inception Score
    features: str = "features"
    spatial: str = ""
    logits: str = ""
    batch: int = 500  # images at once


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
    """Make an extractor known by its name; UserError if the name is taken by another."""
    if EXTRACTORS.setdefault(extractor.name, extractor) != extractor:
        raise UserError(f"extractor {extractor.name}: the name is taken")


for made_here in (
    _small("digits", "46524b1c25f8ae1f77a9d2426d9fb41e65c5f32335257a14ae2f3c2df2bf39fb", 1, 8, True),
    _small("digits16", "c1f0e07506a8bd1da33be7ab9416f9a23a2c99a148a506f79c669fe2c4bbd9e5", 1, 16, True),
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
    register(made_here)


def extractor_facts(name: str) -> ExtractorFacts:
    """By name, or, from outside this package, the ExtractorFacts at `package.module:NAME`."""
    if name in EXTRACTORS:
        return EXTRACTORS[name]
    module, colon, attribute = name.partition(":")
    if not colon:
        raise unknown("evaluation.extractor", name, [*EXTRACTORS, "package.module:NAME"])
    try:
        found = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # what a module from outside raises is anything
        raise UserError(f"evaluation.extractor = {name}: {type(error).__name__}: {error}") from None
    if not isinstance(found, ExtractorFacts):
        raise UserError(f"evaluation.extractor = {name}: is no ExtractorFacts")
    return found


def missing_requirement(config: Config) -> str:
    """What the config's run needs before it can be made, in a line that names the field; empty where all is there."""
    e = config.evaluation
    if missing := missing_data(config.data.name, "data.name"):
        return missing
    if missing := missing_instrument(e.extractor, e.reference, e.metrics, e.extractor_weights):
        return missing
    if e.sampler in SOLVERS and not find_spec("diffusers"):
        return f"evaluation.sampler = {e.sampler}: needs Diffusers, the extra `samplers`"
    return ""


def missing_instrument(extractor: str, reference: str, metrics: Collection[str], weights: str) -> str:
    """What measuring needs, in a line that names the field; empty where all is there. `weights`: a file or folder."""
    if is_file(reference):
        if missing := ReferenceFile(Path(reference)).missing_requirement():
            return f"evaluation.reference = {reference}: {missing}"
    elif missing := missing_data(reference, "evaluation.reference"):
        return missing
    if missing := extractor_facts(extractor).weights.missing_requirement(weights):
        return f"evaluation.extractor = {extractor}: needs {missing}"
    if set(CLEAN_FID_METRICS) & set(metrics) and (missing := CLEAN_FID.missing_requirement(weights)):
        return f"evaluation.metrics: clean-fid needs {missing}"
    return ""


class ReferenceFacts(NamedTuple):
    """What the key says of a reference, and what must fit."""

    name: str
    sha256: str
    images: int
    kind: str
    layers: tuple[str, ...]  # that its file has statistics of
    shape: tuple[int, int] | None  # (channels, pixels a side), None: unknown
    transform: str | None  # None: unknown
    extractor_sha256: str | None  # of the network that its statistics come from; None: there are none, or unknown


def reference_facts(reference: str) -> ReferenceFacts:
    """Of a data set's name or an .npz file; a file that is not there yet has no hash."""
    if not is_file(reference):
        known = facts(reference, "evaluation.reference")
        shape = known.channels, known.image_size
        return ReferenceFacts(reference, known.sha256, known.images, "images", (), shape, "none", None)
    file = ReferenceFile(Path(reference))
    if file.missing_requirement():
        return ReferenceFacts(file.name, "", 0, "images", (), None, None, None)
    stated = file.stated
    return ReferenceFacts(
        file.name,
        file.sha256,
        file.images,
        file.kind,
        file.layers,
        file.image_shape,
        stated.get("transform"),
        stated.get("extractor_sha256"),
    )


def evaluation_key(config: Config) -> EvaluationKey:
    """How the config's evaluation measures; raises UserError for what is unknown or does not fit the images."""
    e, of_data = config.evaluation, facts(config.data.name, "data.name")
    shape = of_data.decoded or (config.model.channels, config.model.image_size)
    make = _key if is_file(e.reference) else _key_of_data_set
    return make(e, shape, of_data.transform)


def _key(e: EvaluationConfig, shape: tuple[int, int], transform: str) -> EvaluationKey:
    return EvaluationKey(
        **instrument(e.extractor, e.reference, e.metrics, e.samples, shape, transform),
        sampler=e.sampler,
        sampler_steps=e.sampler_steps,
        guidance=e.guidance,
        guidance_channels=e.guidance_channels,
        clip=e.clip,
        weights=e.weights,
    )


_key_of_data_set = lru_cache(maxsize=1 << 12)(_key)  # the runs of a grid are mostly measured alike; files may change


def external_key(
    extractor: str, reference: str, metrics: tuple[str, ...], samples: int, shape: tuple[int, int]
) -> EvaluationKey:
    """Of samples that came from elsewhere: nothing is known of how they were made; UserError as `evaluation_key`."""
    for metric in metrics:
        if metric not in METRICS:
            raise unknown("evaluation.metrics", metric, METRICS)
    for metric in metrics:
        if METRICS[metric].needs_labels:
            raise UserError(f"evaluation.metrics: {metric} needs labels, which samples from elsewhere have not")
    return EvaluationKey(
        **instrument(extractor, reference, metrics, samples, shape, None),
        sampler="outside",
        sampler_steps=0,
        guidance=1.0,
        clip=False,
        weights="outside",
    )


def instrument(
    extractor: str,
    reference: str,
    metrics: tuple[str, ...],
    samples: int,
    shape: tuple[int, int],
    transform: str | None,
) -> dict[str, Any]:
    """The fields of a key that say what samples of `shape` (channels, pixels a side) are measured with, if it fits.

    `transform` is that of the training data, None where it is not known.
    """
    by, against = extractor_facts(extractor), reference_facts(reference)
    refuse_shape(f"evaluation.extractor = {extractor}", by, shape)
    if against.shape and against.shape != shape:
        raise UserError(_misfit(f"evaluation.reference = {reference}", against.shape, shape))
    if transform and against.transform and transform != against.transform:
        raise UserError(
            f"evaluation.reference = {reference}: made with transform {against.transform!r}, "
            f"the data with {transform!r}"
        )
    if against.extractor_sha256 not in (None, by.weights.sha256):
        raise UserError(
            f"evaluation.reference = {reference}: its statistics are of a network with sha256 "
            f"{against.extractor_sha256[:12]}..., {extractor} has {by.weights.sha256[:12]}..."
        )
    for metric, reason in unsupported_metrics(by, against, samples).items():
        if metric in metrics:
            raise UserError(f"evaluation.metrics: {metric} {reason}")
    return {
        "extractor": extractor,
        "extractor_sha256": by.weights.sha256,
        "extractor_layers": f"{by.network} {by.features} {by.spatial} {by.logits}" if ":" in extractor else "",
        "reference": against.name,
        "reference_sha256": against.sha256,
        "reference_samples": against.images,
        "reference_kind": against.kind,
        "samples": samples,
        "metrics": tuple(metric for metric in METRICS if metric in metrics),
        "transform": transform or against.transform or "unknown",
        "clean_fid_sha256": CLEAN_FID.sha256 if set(CLEAN_FID_METRICS) & set(metrics) else "",
    }


def refuse_shape(field: str, extractor: ExtractorFacts, shape: tuple[int, int]) -> None:
    """Raise UserError for images of (channels, pixels a side) that the extractor does not take; grey ones repeat."""
    takes = extractor.channels, extractor.image_size or shape[1]
    if takes[1] != shape[1] or shape[0] not in (takes[0], 1):
        raise UserError(_misfit(field, takes, shape))


def _misfit(field: str, takes: tuple[int, int], shape: tuple[int, int]) -> str:
    return f"{field}: for {takes[0]} channels of {takes[1]} pixels a side, not {shape[0]} of {shape[1]}"


def unsupported_metrics(by: ExtractorFacts, against: ReferenceFacts, samples: int) -> dict[str, str]:
    """Metrics that this extractor, reference or number of samples cannot give, and why."""
    obstacles = {
        name: _needs_of_extractor(metric, by)
        or _needs_of_samples(metric, samples)
        or _needs_of_reference(metric, against)
        for name, metric in METRICS.items()
    }
    return {name: obstacle for name, obstacle in obstacles.items() if obstacle}


def _needs_of_extractor(metric: Metric, by: ExtractorFacts) -> str:
    """What the metric needs of the extractor and does not find; empty where it finds all."""
    if metric.extractor == "scores" and not by.scores:
        return f"needs a classifier of the data, {by.name} is none"
    if metric.extractor == "classifies" and not by.classifies:
        return f"needs a classifier, {by.name} is none"
    if metric.extractor == "natural images" and by.image_size:
        return f"needs an extractor of natural images, {by.name} is none"
    layers = {"features": by.features, "spatial": by.spatial, "logits": by.logits}
    if not layers.get(metric.layer, "a network of its own"):
        return f"needs a {metric.layer} layer, {by.name} has none"
    return ""


def _needs_of_samples(metric: Metric, samples: int) -> str:
    """Why there are too few samples for the metric; empty where there are enough."""
    least = metric.least_samples
    if samples >= least:
        return ""
    return f"needs more than {'one sample' if least == 2 else f'{least - 1} samples'}, not {samples}"


def _needs_of_reference(metric: Metric, against: ReferenceFacts) -> str:
    """What the metric needs of the reference and does not find; empty where it finds all, or nothing is known of it."""
    if metric.reference == "gaussian" and against.kind == "statistics":
        if metric.layer in against.layers:
            return ""
        return f"needs {' and '.join(STATISTICS[metric.layer])} beside mu and sigma, {against.name} has none"
    least = metric.least_images
    if not against.sha256 or against.images >= least:
        return ""
    if least == 1:
        return f"needs images of the reference, {against.name} has none"
    number = "one image" if least == 2 else f"{least - 1} images"
    return f"needs more than {number} of the reference, {against.name} has {against.images}"
