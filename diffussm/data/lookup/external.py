"""Data sets from outside this package: classes named `package.module:Class`.

Such a class is built as `Class(data)`, where `data` is the section of the config, and has

    facts(data) -> DataFacts                             static: what is known of the data without loading it
    batch(seed, step, size, start=0, count=None) -> Images    the images of a training step (see `TrainingData`)
    options = ("root",)                                  fields of `data` that it reads, if any; root is the only one

`facts` states the SHA-256 of the content that is trained on, if it can: it becomes `data.digest`, a part of the run id.
Without it the name stands for the content. Planning calls `facts` alone, so it should import neither torch nor NumPy.
"""

import traceback
from typing import Any

from diffussm.config import DataConfig
from diffussm.data.catalogue import DataFacts
from diffussm.errors import UserError
from diffussm.external import external_class


def data_class(name: str) -> Any:
    """Return the class `package.module:Class` of a data set; raise UserError if it is none."""
    found = external_class("data.name", name)
    for method in ("facts", "batch"):
        if not callable(getattr(found, method, None)):
            raise UserError(f"data.name = {name!r}: has no method `{method}`, which a data set needs")
    return found


def external_facts(data: DataConfig) -> DataFacts:
    """Return the facts that the class states; raise UserError if it states others than DataFacts."""
    found = data_class(data.name)
    if data.root and "root" not in getattr(found, "options", ()):
        raise UserError(f"data.root: {data.name} does not read it; remove it, or name it in the class's `options`")
    what = f"data.name = {data.name!r}: its facts()"
    try:
        stated = found.facts(data)
    except UserError:
        raise
    except Exception as error:  # whatever the class does
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise UserError(
            f"{what} raised {type(error).__name__}: {error} ({place.filename}, line {place.lineno})"
        ) from None
    if not isinstance(stated, DataFacts):
        raise UserError(f"{what} returned {stated!r}, expected DataFacts")
    for name, least in (("images", 0), ("image_size", 1), ("channels", 1), ("classes", 0)):
        value = getattr(stated, name)
        if type(value) is not int or value < least:
            raise UserError(f"{what} states {name} = {value!r}; allowed: a whole number from {least}")
    return stated
