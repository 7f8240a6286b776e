"""The files that an evaluation names, as they are requested: by absolute paths, with their hashes. No torch."""

from pathlib import Path

from diffussm.config import Config, absolute, is_extractor_file, is_npz_name
from diffussm.metrics.decoding.given import requested_sha256
from diffussm.metrics.features.registry import extractor_facts
from diffussm.metrics.reference.file import ReferenceFile
from diffussm.store.hashes import file_sha256


def as_requested(config: Config) -> Config:
    """Return the config with absolute paths, and with the hashes of its reference file, of the weights of an extractor
    from outside this package or in a file, and of the autoencoder of latents, unless it states them.

    So what is requested in one folder and evaluated in another, or later, is measured against the file that was meant,
    or against none. A file that is missing or damaged has no hash. The weights of the package's own extractors are
    known to it.
    """
    evaluation = config.evaluation
    paths = ("reference", "extractor", "extractor_weights", "vae")
    changes = {field: absolute(f"evaluation.{field}", getattr(evaluation, field)) for field in paths}
    changes["vae_sha256"] = requested_sha256(config)
    if is_npz_name(evaluation.reference) and not evaluation.reference_file_sha256:
        file = ReferenceFile(Path(changes["reference"]))
        changes["reference_file_sha256"] = "" if file.problem() else file.sha256
    if not evaluation.extractor_weights_sha256:
        if is_extractor_file(evaluation.extractor):
            weights = Path(changes["extractor"])
            changes["extractor_weights_sha256"] = file_sha256(weights) if weights.is_file() else ""
        elif ":" in evaluation.extractor:
            changes["extractor_weights_sha256"] = extractor_facts(evaluation.extractor).weights.sha256
    if all(getattr(evaluation, field) == value for field, value in changes.items()):
        return config
    return config.model_copy(update={"evaluation": evaluation.model_copy(update=changes)})
