"""The requirements of a run and of metrics, and which of them are missing. No torch."""

from importlib.util import find_spec
from pathlib import Path

from diffussm.config import SOLVERS, Config, EvaluationConfig, is_npz_name
from diffussm.data.catalogue import missing_reference
from diffussm.data.lookup.facts import missing_data
from diffussm.errors import UserError
from diffussm.metric import Metric
from diffussm.metric_table import CLEAN_FID as CLEAN_FID_METRICS
from diffussm.metric_table import METRICS
from diffussm.metrics.decoding.given import missing_vae
from diffussm.metrics.features.registry import ExtractorFacts, extractor_facts
from diffussm.metrics.features.weights_file import CLEAN_FID
from diffussm.metrics.reference.facts import ReferenceFacts
from diffussm.metrics.reference.file import STATISTICS, ReferenceFile
from diffussm.metrics.reference.published import where_from


def missing_requirement(config: Config) -> str:
    """Return what the config's run lacks before it can start, data and what measures it, in a line that names the
    fields; "" if nothing."""
    return "; ".join(filter(None, (missing_data(config), missing_measuring_requirement(config))))


def missing_measuring_requirement(config: Config) -> str:
    """Return what sampling and measuring lack, in a line that names the fields; "" if nothing. The training data are
    not needed."""
    missing = "; ".join(filter(None, (missing_evaluation_requirement(config.evaluation), missing_vae(config))))
    if missing:
        return missing
    sampler = config.evaluation.sampler
    if sampler in SOLVERS and not find_spec("diffusers"):
        return f"evaluation.sampler = {sampler}: needs Diffusers, the extra `samplers`"
    return ""


def check_requirements(config: Config | EvaluationConfig) -> None:
    """Raise UserError for what a run, or an evaluation alone, lacks before it can start."""
    if missing := missing_requirement(config) if isinstance(config, Config) else missing_evaluation_requirement(config):
        raise UserError(missing)


def missing_evaluation_requirement(evaluation: EvaluationConfig) -> str:
    """Return what the evaluation lacks (reference or weights), in a line that names the field; "" if nothing."""
    reference, weights = evaluation.reference, evaluation.extractor_weights
    if is_npz_name(reference):
        file = ReferenceFile(Path(reference))
        if missing := file.problem():
            hint = "" if file.path.exists() else f"; {where_from(file.path)}"
            return f"evaluation.reference = {reference}: {missing}{hint}"
        if missing := _changed_since(reference, evaluation.reference_file_sha256):
            return f"evaluation.reference = {reference}: {missing}"
    elif evaluation.reference_file_sha256:
        return f"evaluation.reference_file_sha256: {reference} is a data set, not a file; leave it out"
    elif missing := missing_reference(reference, "evaluation.reference"):
        return missing
    if missing := _other_weights(evaluation.extractor, evaluation.extractor_weights_sha256):
        return f"evaluation.extractor = {evaluation.extractor}: {missing}"
    if missing := extractor_facts(evaluation.extractor).weights.missing_requirement(weights):
        return f"evaluation.extractor = {evaluation.extractor}: {missing}"
    if set(CLEAN_FID_METRICS) & set(evaluation.metrics) and (missing := CLEAN_FID.missing_requirement(weights)):
        return f"evaluation.metrics: clean-fid {missing}"
    return ""


def _changed_since(reference: str, stated: str) -> str:
    """Return how the reference file differs from the one whose hash is stated; "" if it does not."""
    if stated in ("", found := ReferenceFile(Path(reference)).sha256):
        return ""
    return (
        f"has sha256 {found}, but the file that was requested had {stated}; put that file back, or request the "
        "evaluation again, to measure against this one, and delete the request of before in the run's requests/"
    )


def _other_weights(extractor: str, stated: str) -> str:
    """Return how the weights that the extractor needs differ from those whose hash is stated; "" if they do not."""
    if not stated or stated == (found := extractor_facts(extractor).weights.sha256):
        return ""
    return (
        f"needs weights with sha256 {found}, but the extractor that was requested needed {stated}; put that one back, "
        "or request the evaluation again"
    )


def unsupported_metrics(extractor: ExtractorFacts, reference: ReferenceFacts, samples: int) -> dict[str, str]:
    """Return the metrics that the extractor, the reference or the number of samples does not support, and why."""
    obstacles = {
        name: _extractor_obstacle(metric, extractor)
        or _samples_obstacle(metric, samples)
        or _reference_obstacle(metric, reference)
        for name, metric in METRICS.items()
    }
    return {name: obstacle for name, obstacle in obstacles.items() if obstacle}


def _extractor_obstacle(metric: Metric, extractor: ExtractorFacts) -> str:
    """Return what the metric needs and the extractor lacks; "" if nothing."""
    if metric.extractor == "scores" and not extractor.scores:
        return f"needs a classifier of the data, which {extractor.name} is not"
    if metric.extractor == "classifies" and not extractor.classifies:
        return f"needs a classifier, which {extractor.name} is not"
    if metric.extractor == "natural images" and extractor.image_size:
        return f"needs an extractor for natural images, which {extractor.name} is not"
    layers = {"features": extractor.features, "spatial": extractor.spatial, "logits": extractor.logits}
    if not layers.get(metric.layer, "a network of its own"):
        return f"needs a {metric.layer} layer, which {extractor.name} does not have"
    return ""


def _samples_obstacle(metric: Metric, samples: int) -> str:
    """Return why there are too few samples for the metric; "" if there are enough."""
    least = metric.least_samples
    if samples >= least:
        return ""
    return f"needs at least {least} samples, but there {'is' if samples == 1 else 'are'} {samples}"


def _reference_obstacle(metric: Metric, reference: ReferenceFacts) -> str:
    """Return what the metric needs and the reference lacks; "" if nothing, or if the reference is not there yet."""
    if metric.reference == "gaussian" and reference.kind == "statistics":
        if metric.layer in reference.layers:
            return ""
        arrays = " and ".join(STATISTICS[metric.layer])
        return f"needs {arrays} besides mu and sigma, which {reference.name} does not have"
    least = metric.least_images
    if not reference.is_known or reference.images >= least:
        return ""
    number = "images" if least == 1 else f"at least {least} images"
    return f"needs {number} of the reference, but {reference.name} has {reference.images or 'none'}"
