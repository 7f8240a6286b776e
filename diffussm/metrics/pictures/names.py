"""Names of classes for pictures."""

from collections.abc import Iterable

from diffussm.config import Config
from diffussm.data.lookup.facts import find
from diffussm.errors import UserError


def names_of(config: Config, labels: Iterable[int]) -> list[str]:
    """Return the name of the class of each label, by the config's data set, or its number if the data set has no names
    or is not there; none of an unconditional model."""
    if not config.model.classes:
        return []
    try:
        known = find(config.data)
    except UserError:  # other data lie there
        known = None
    names = known.class_names if known else ()
    return [names[label] if label < len(names) else str(label) for label in labels]
