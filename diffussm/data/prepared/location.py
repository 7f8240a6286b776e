"""Where the prepared data set of a config lies. No NumPy."""

import os
from pathlib import Path

from diffussm.config import DataConfig
from diffussm.data.prepared.manifest import MANIFEST

VARIABLE = "DIFFUSSM_DATA"
SOURCES = {  # what the prepared data sets of the shipped bases are made of
    "cifar10": "cifar-10-binary.tar.gz",
    "imagenet64": "ILSVRC/Data/CLS-LOC/train",
    "imagenet128": "ILSVRC/Data/CLS-LOC/train",
}


def prepared_folder(data: DataConfig) -> Path | None:
    """Return the folder of the prepared data set: data.root or, if that does not hold one, $DIFFUSSM_DATA/<name>; None
    if neither does."""
    return next((folder for folder in _candidates(data) if (folder / MANIFEST).exists()), None)


def missing_prepared(data: DataConfig, image_size: int | str) -> str:
    """Return, in one line, where the prepared data set was looked for, and the command that makes it."""
    candidates = _candidates(data)
    if not candidates:
        found, target, then = f"neither data.root nor ${VARIABLE} says where it lies", "DIR", " and give --data DIR"
    else:
        found = f"no {MANIFEST} in {' or '.join(map(str, candidates))}"
        target, then = str(candidates[0]), ""
    source = SOURCES.get(data.name, "SOURCE")
    if candidates and data.root and candidates[0].is_dir() and any(candidates[0].iterdir()):  # the images themselves
        source, target, then = str(candidates[0]), "DIR", " and give --data DIR"
    command = f"diffussm data prepare {source} {target} --image-size {image_size}"
    return f"and {found}; make it with `{command}`{then}"


def _candidates(data: DataConfig) -> list[Path]:
    roots = [Path(data.root).expanduser()] if data.root else []
    if above := os.environ.get(VARIABLE):
        roots.append(Path(above).expanduser() / data.name)
    return [root.absolute() for root in roots]
