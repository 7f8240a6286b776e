"""Names of classes, for pictures and on the command line."""

import contextlib
import zipfile
from collections.abc import Iterable, Mapping

import numpy as np

from diffussm.config import Config
from diffussm.data.lookup.facts import find
from diffussm.errors import UserError
from diffussm.store.rundir import RunDir

SHOWN = 20  # names that a message lists


def class_names(config: Config, run: RunDir | None = None) -> dict[int, str]:
    """Return the name of each class by its label, by the config's data set or, where that is missing, as far as they
    stand beside the samples of the run; none of an unconditional model, or if nothing is known."""
    if not config.model.classes:
        return {}
    with contextlib.suppress(UserError):  # other data lie there
        if (known := find(config.data)) and known.class_names:
            return dict(enumerate(known.class_names))
    return _stored_names(run) if run else {}


def _stored_names(run: RunDir) -> dict[int, str]:
    """Return the names that stand beside the samples of the run's milestones."""
    names: dict[int, str] = {}
    for path in sorted(run.path.glob("milestones/*/*/samples.npz")):
        with contextlib.suppress(OSError, ValueError, KeyError, zipfile.BadZipFile), np.load(path) as stored:
            names |= dict(zip(stored["labels"].tolist(), stored["class_names"].tolist(), strict=True))
    return names


def names_of(config: Config, labels: Iterable[int], names: Mapping[int, str] | None = None) -> list[str]:
    """Return the name of the class of each label, its number if it is not among the `names` (default: those of the
    config's data set); none of an unconditional model."""
    if not config.model.classes:
        return []
    known = class_names(config) if names is None else names
    return [known.get(label, str(label)) for label in labels]


def label_of(text: str, config: Config, names: Mapping[int, str]) -> int:
    """Return the label of a class that is given by its number or name; raise UserError if the model has none such."""
    classes, text = config.model.classes, text.strip()
    if not classes:
        raise UserError(f"--classes {text}: this model is unconditional; leave out --classes")
    if text.isascii() and text.isdigit() and int(text) < classes:
        return int(text)
    found = [label for label, name in names.items() if name == text]
    if len(found) == 1:
        return found[0]
    listed = ", ".join(list(names.values())[:SHOWN]) + ", ..." * (len(names) > SHOWN)
    must = f"must be between 0 and {classes - 1}, the classes of this model"
    raise UserError(f"--classes {text}: {must}{f', or a name of them: {listed}' if names else ''}")
