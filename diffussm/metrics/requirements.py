"""What a run and its metrics need, and what of it is missing. No torch."""

from importlib.util import find_spec
from pathlib import Path

from diffussm.config import SOLVERS, Config, EvaluationConfig
from diffussm.data.catalogue import missing_data
from diffussm.metric_table import CLEAN_FID as CLEAN_FID_METRICS
from diffussm.metric_table import METRICS, Metric
from diffussm.metrics.features.registry import ExtractorFacts, extractor_facts
from diffussm.metrics.features.weights_file import CLEAN_FID
from diffussm.metrics.reference.facts import ReferenceFacts
from diffussm.metrics.reference.file import STATISTICS, ReferenceFile, is_file


def missing_requirement(config: Config) -> str:
    """What the config's run needs before it can be made, in a line that names the field; empty where all is there."""
    if missing := missing_data(config.data.name, "data.name") or missing_instrument(config.evaluation):
        return missing
    sampler = config.evaluation.sampler
    if sampler in SOLVERS and not find_spec("diffusers"):
        return f"evaluation.sampler = {sampler}: needs Diffusers, the extra `samplers`"
    return ""


def missing_instrument(evaluation: EvaluationConfig) -> str:
    """What measuring needs, in a line that names the field; empty where all is there."""
    reference, weights = evaluation.reference, evaluation.extractor_weights
    if is_file(reference):
        if missing := ReferenceFile(Path(reference)).missing_requirement():
            return f"evaluation.reference = {reference}: {missing}"
    elif missing := missing_data(reference, "evaluation.reference"):
        return missing
    if missing := extractor_facts(evaluation.extractor).weights.missing_requirement(weights):
        return f"evaluation.extractor = {evaluation.extractor}: needs {missing}"
    if set(CLEAN_FID_METRICS) & set(evaluation.metrics) and (missing := CLEAN_FID.missing_requirement(weights)):
        return f"evaluation.metrics: clean-fid needs {missing}"
    return ""


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
