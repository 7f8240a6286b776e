"""The evaluation key: how samples are measured, if that fits them. No torch."""

from functools import lru_cache
from typing import Any

from diffussm.config import Config, EvaluationConfig
from diffussm.data.catalogue import facts
from diffussm.errors import UserError, unknown
from diffussm.metric_table import CLEAN_FID as CLEAN_FID_METRICS
from diffussm.metric_table import METRICS
from diffussm.metrics.features.registry import extractor_facts, misfit, refuse_shape
from diffussm.metrics.features.weights_file import CLEAN_FID
from diffussm.metrics.reference.facts import reference_facts
from diffussm.metrics.reference.file import is_file
from diffussm.metrics.requirements import unsupported_metrics
from diffussm.store.records import EvaluationKey


def evaluation_key(config: Config) -> EvaluationKey:
    """How the config's evaluation measures; raises UserError for what is unknown or does not fit the images."""
    e, of_data = config.evaluation, facts(config.data.name, "data.name")
    shape = of_data.decoded or (config.model.channels, config.model.image_size)
    make = _key if is_file(e.reference) else _key_of_data_set
    return make(e, shape, of_data.transform)


def _key(e: EvaluationConfig, shape: tuple[int, int], transform: str) -> EvaluationKey:
    return EvaluationKey(
        **instrument(e, shape, transform),
        sampler=e.sampler,
        sampler_steps=e.sampler_steps,
        guidance=e.guidance,
        guidance_channels=e.guidance_channels,
        clip=e.clip,
        weights=e.weights,
    )


_key_of_data_set = lru_cache(maxsize=1 << 12)(_key)  # the runs of a grid are mostly measured alike; files may change


def external_key(evaluation: EvaluationConfig, shape: tuple[int, int]) -> EvaluationKey:
    """Return the key of samples from elsewhere: nothing is known of how they were made. Raises as `evaluation_key`."""
    for metric in evaluation.metrics:
        if metric not in METRICS:
            raise unknown("evaluation.metrics", metric, METRICS)
    for metric in evaluation.metrics:
        if METRICS[metric].needs_labels:
            raise UserError(f"evaluation.metrics: {metric} needs labels, which samples from elsewhere have not")
    return EvaluationKey(
        **instrument(evaluation, shape, None),
        sampler="outside",
        sampler_steps=0,
        guidance=1.0,
        clip=False,
        weights="outside",
    )


def instrument(evaluation: EvaluationConfig, shape: tuple[int, int], transform: str | None) -> dict[str, Any]:
    """Return a key's fields that say what samples of `shape` (channels, pixels a side) are measured with, if it fits.

    `transform` is that of the training data, None where it is not known.
    """
    extractor, reference, metrics = evaluation.extractor, evaluation.reference, evaluation.metrics
    by, against = extractor_facts(extractor), reference_facts(reference)
    refuse_shape(f"evaluation.extractor = {extractor}", by, shape)
    if against.shape and against.shape != shape:
        raise UserError(misfit(f"evaluation.reference = {reference}", against.shape, shape))
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
    for metric, reason in unsupported_metrics(by, against, evaluation.samples).items():
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
        "samples": evaluation.samples,
        "metrics": tuple(metric for metric in METRICS if metric in metrics),
        "transform": transform or against.transform or "unknown",
        "clean_fid_sha256": CLEAN_FID.sha256 if set(CLEAN_FID_METRICS) & set(metrics) else "",
    }
