"""Data sets from outside this package: classes named `package.module:Class`.

Such a class is built as `Class(data)`, where `data` is the section of the config, and has

    facts(data) -> DataFacts                             static: what is known of the data without loading it
    batch(seed, step, size, start=0, count=None) -> Images    the images of a training step (see `TrainingData`)
    options = ("root",)                                  fields of `data` that it reads, if any; root is the only one

`facts` states the SHA-256 of the content that is trained on, if it can: it becomes `data.digest`, a part of the run id.
Without it the name stands for the content. Planning calls `facts` alone, so it should import neither torch nor NumPy.
"""

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
    stated = found.facts(data)
    if not isinstance(stated, DataFacts):
        raise UserError(f"data.name = {data.name!r}: its facts() returned {stated!r}, expected DataFacts")
    return stated
