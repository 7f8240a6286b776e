"""Whether a run is measured on the data that it is trained on: digests of its data, of those that its reference was
built from and of those that its extractor was trained on. No torch."""

from diffussm.config import Config
from diffussm.data.lookup.facts import stated_facts
from diffussm.metrics.features.registry import extractor_facts
from diffussm.metrics.reference.facts import reference_facts
from diffussm.store.records import of_other_data

SHOWN = 12  # digits of a digest
_MADE = {
    "reference": ("was built from", "build another with `diffussm reference build`"),
    "extractor": ("was trained on", "train another with `diffussm extractor train`"),
}


def data_digests(config: Config) -> dict[str, str]:
    """Return the digests of the data of the run's `training`, of its `reference` and of its `extractor`, each if it is
    stated."""
    evaluation = config.evaluation
    found = {
        "training": stated_facts(config).sha256,
        "reference": reference_facts(evaluation.reference, evaluation.reference_file_sha256).data_digest,
        "extractor": extractor_facts(evaluation.extractor).data_digest,
    }
    return {name: digest for name, digest in found.items() if digest}


def other_data(config: Config) -> list[str]:
    """Return a line for the reference and one for the extractor, each if it was made of other data than the run is
    trained on."""
    digests, lines = data_digests(config), []
    for field in of_other_data(digests):
        made, remedy = _MADE[field]
        lines.append(
            f"evaluation.{field} = {getattr(config.evaluation, field)}: {made} data with digest "
            f"{digests[field][:SHOWN]}..., but {config.data.name}, the training data, has "
            f"{digests['training'][:SHOWN]}...; {remedy}, unless other data are meant"
        )
    return lines
