"""What a launch says of a run's data, and what a record states: digests of its data, of those that its reference was
built from and of those that its extractor was trained on, and what was baked into latents. No torch."""

from typing import Any

from diffussm.config import Config
from diffussm.data.lookup.facts import misspelt, stated_facts
from diffussm.metrics.features.registry import extractor_facts
from diffussm.metrics.reference.facts import reference_facts
from diffussm.store.records import DATA_BAKED, DATA_DIGESTS, of_other_data

SHOWN = 12  # digits of a digest
_MADE = {
    "reference": ("was built from", "build another with `diffussm reference build`"),
    "extractor": ("was trained on", "train another with `diffussm extractor train`"),
}


def data_digests(config: Config) -> dict[str, str]:
    """Return the digests of the data of the run's `training`, of its `reference` and of its `extractor`, each if it is
    stated. That of latents is left out: the others are of images."""
    evaluation = config.evaluation
    found = {
        "training": "" if config.data.decoded_size else stated_facts(config).sha256,
        "reference": reference_facts(evaluation.reference, evaluation.reference_file_sha256).data_digest,
        "extractor": extractor_facts(evaluation.extractor).data_digest,
    }
    return {name: digest for name, digest in found.items() if digest}


def data_provenance(config: Config) -> dict[str, Any]:
    """Return what a record states of the run's data: their digests and, of latents, what was baked in."""
    baked = {DATA_BAKED: list(config.data.baked)} if config.data.decoded_size else {}
    return {DATA_DIGESTS: data_digests(config), **baked}


def remarks(config: Config) -> list[str]:
    """Return what a user must know of the run's data before it is launched, a line each."""
    return [*misspelt_name(config), *baked_in(config), *other_data(config)]


def misspelt_name(config: Config) -> list[str]:
    """Return a line on a prepared data set that is named almost as an embedded one."""
    name = config.data.name
    return [f"data.name = {name}: is no embedded data set; did you mean {misspelt(config.data)!r}?"] * bool(
        misspelt(config.data)
    )


def baked_in(config: Config) -> list[str]:
    """Return a line on latents of which something is the same in each epoch."""
    if not config.data.baked:
        return []
    what = ", ".join(config.data.baked)
    return [f"data.name = {config.data.name}: baked into its latents, the same in each epoch: {what}"]


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
