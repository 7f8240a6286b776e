"""The evaluation key, which says how samples are measured, and its checks. No torch."""

from functools import lru_cache
from typing import Any

from diffussm.config import Config, EvaluationConfig, is_extractor_file, is_npz_name
from diffussm.config.schema_errors import quoted
from diffussm.data.lookup.facts import find, stated_facts
from diffussm.errors import UserError, unknown
from diffussm.metric_table import CLEAN_FID as CLEAN_FID_METRICS
from diffussm.metric_table import METRICS
from diffussm.metrics.decoding.given import decoding, vae_sha256
from diffussm.metrics.features.registry import accepts, extractor_facts, extractor_mismatch, shape_mismatch
from diffussm.metrics.features.weights_file import CLEAN_FID
from diffussm.metrics.reference.facts import reference_facts
from diffussm.metrics.requirements import unsupported_metrics
from diffussm.store.records import EvaluationKey, KeyDigests


def evaluation_key(config: Config) -> EvaluationKey:
    """Return the key of the config's evaluation; UserError for what is unknown or does not fit the images."""
    e, data = config.evaluation, stated_facts(config)
    shape = data.decoded or (config.model.channels, config.model.image_size)
    if "label_accuracy" in e.metrics:
        _check_classes(config)
    names_file = is_npz_name(e.reference) or is_extractor_file(e.extractor)
    make = _key if names_file else _cached_key  # the facts of a file may change
    return make(e, shape, data.transform, (vae_sha256(config), decoding(config)))


def _check_classes(config: Config) -> None:
    """Raise UserError if the extractor is known to have other classes than the model, or in another order."""
    name, extractor = config.evaluation.extractor, extractor_facts(config.evaluation.extractor)
    metric = f"evaluation.metrics: label_accuracy: {name}"
    if extractor.classes not in (None, config.model.classes):
        raise UserError(
            f"{metric} tells {extractor.classes} classes apart, the model has {config.model.classes}; leave it out, or "
            "train an extractor on data with the same classes"
        )
    data = _class_names(config) if extractor.class_names else ()
    for label, (own, other) in enumerate(zip(extractor.class_names, data, strict=False)):
        if own != other:
            raise UserError(
                f"{metric} has class {quoted(own)} where the data have {quoted(other)} (label {label}); leave it out, "
                "or train an extractor on data with the same classes in the same order"
            )


def _class_names(config: Config) -> tuple[str, ...]:
    """Return the names of the data's classes; none if they are only numbered, if the data are not there any more, or
    if others are."""
    try:
        found = find(config.data)
    except UserError:
        return ()
    names = found.class_names if found else ()
    return () if names == tuple(map(str, range(len(names)))) else names


def _key(e: EvaluationConfig, shape: tuple[int, int], transform: str, vae: tuple[str, str]) -> EvaluationKey:
    return EvaluationKey(
        **measurement_fields(e, shape, transform),
        sampler=e.sampler,
        sampler_steps=e.sampler_steps,
        ddim_eta=e.ddim_eta,
        precision=e.precision,
        guidance=e.guidance,
        guidance_channels=e.guidance_channels,
        labels=e.labels,
        clip=e.clip,
        weights=e.weights,
        vae_sha256=vae[0],
        decoding=vae[1],
    )


@lru_cache(maxsize=1 << 12)  # most runs of a grid share their key
def _cached_key(e: EvaluationConfig, shape: tuple[int, int], transform: str, vae: tuple[str, str]) -> EvaluationKey:
    return _key(e, shape, transform, vae)


def key_digests(config: Config) -> KeyDigests:
    """Return the digests by which the records of the config's evaluation are found."""
    return digests_of(evaluation_key(config), config.evaluation)


@lru_cache(maxsize=1 << 12)
def digests_of(key: EvaluationKey, evaluation: EvaluationConfig) -> KeyDigests:
    """Return the digests by which records of the evaluation's key are found."""
    is_known_file = is_npz_name(evaluation.reference) and key.reference_sha256
    return KeyDigests(key.digest, key.content_digest if is_known_file else "")


def external_key(evaluation: EvaluationConfig, shape: tuple[int, int]) -> EvaluationKey:
    """Return the key of external samples, whose making is unknown. Raises as `evaluation_key`."""
    for metric in evaluation.metrics:
        if metric not in METRICS:
            raise unknown("evaluation.metrics", metric, METRICS)
    for metric in evaluation.metrics:
        if METRICS[metric].needs_labels:
            raise UserError(
                f"evaluation.metrics: {metric} needs class labels, which external samples do not have; leave it out"
            )
    return EvaluationKey(
        **measurement_fields(evaluation, shape, None),
        sampler="outside",
        sampler_steps=0,
        guidance=1.0,
        clip=False,
        weights="outside",
    )


def measurement_fields(evaluation: EvaluationConfig, shape: tuple[int, int], transform: str | None) -> dict[str, Any]:
    """Return the fields of a key for extractor, reference and metrics, after checking that they fit the samples.

    `shape` is (channels, pixels per side); `transform` is that of the training data, None if it is unknown.
    """
    name, reference, metrics = evaluation.extractor, evaluation.reference, evaluation.metrics
    extractor, known = extractor_facts(name), reference_facts(reference, evaluation.reference_file_sha256)
    of_others = []
    if not accepts(extractor, shape):
        of_others.append(extractor_mismatch(f"evaluation.extractor = {name}", extractor, shape))
    if known.shape and known.shape != shape:
        of_others.append(shape_mismatch(f"evaluation.reference = {reference}", known.shape, shape))
    if of_others:
        raise UserError("; ".join(of_others))
    if transform and known.transform and transform != known.transform:
        raise UserError(
            f"evaluation.reference = {reference}: built with transform {known.transform!r}, but the training data use "
            f"{transform!r}; build a reference with that transform"
        )
    if known.extractor_sha256 not in (None, extractor.weights.sha256):
        raise UserError(
            f"evaluation.reference = {reference}: its statistics were computed with other weights "
            f"({known.extractor_sha256[:12]}...) than those of {name} ({extractor.weights.sha256[:12]}...); use "
            f"the extractor that they were computed with{known.of_extractor}, or `diffussm reference build --extractor "
            f"{name}`"
        )
    for metric, reason in unsupported_metrics(extractor, known, evaluation.samples).items():
        if metric in metrics:
            raise UserError(f"evaluation.metrics: {metric} {reason}")
    layers = ""
    if is_extractor_file(name):  # whose place does not matter
        name, layers = extractor.name, f"{extractor.network} {extractor.sizes}"
    elif ":" in name:
        layers = f"{extractor.network} {extractor.features} {extractor.spatial} {extractor.logits}"
    return {
        "extractor": name,
        "extractor_sha256": extractor.weights.sha256,
        "extractor_layers": layers,
        "reference": known.name,
        "reference_sha256": known.sha256,
        "reference_samples": known.images,
        "reference_kind": known.kind,
        "samples": evaluation.samples,
        "metrics": tuple(metric for metric in METRICS if metric in metrics),
        "transform": transform or known.transform or "unknown",
        "clean_fid_sha256": CLEAN_FID.sha256 if set(CLEAN_FID_METRICS) & set(metrics) else "",
    }
