"""Where a field of a base comes from: from the base itself, or from one that it extends."""

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from diffussm.config.overrides import config_keys
from diffussm.config.recipes import lineage
from diffussm.errors import UserError

_KEY = re.compile(r"\b[a-z]+\.[a-z_]+\b")


@contextmanager
def naming_inherited(base: str, overridden: Collection[str] = ()) -> Iterator[None]:
    """Let a UserError about a field that a base takes from another one say so; not of those that are `overridden`."""
    try:
        yield
    except UserError as error:
        keys = dict.fromkeys(key for key in _KEY.findall(str(error)) if key in config_keys() and key not in overridden)
        origins = {key: origin for key in keys if (origin := inherited_from(base, key))}
        if not origins:
            raise
        notes = (f"{key} from {origin}" for key, origin in origins.items())
        raise UserError(f"{error} (inherited: {', '.join(notes)})") from None


def inherited_from(base: str, key: str) -> str:
    """Return the name of the base that a field is inherited from; "" if the base sets it, or none does."""
    section, _, field = key.partition(".")
    for number, (name, recipe) in enumerate(lineage(base)):
        if field in recipe.get(section, {}):
            return name if number else ""
    return ""
