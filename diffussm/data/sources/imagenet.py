"""ImageNet (ILSVRC 2012): as `train/<wnid>/`, as Kaggle's tree, and its flat validation set with the ground truth.

The labels are those of the sorted wnids, as of every model that is trained on `train/`, not the devkit's ids.
"""

import io
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from diffussm.data.sources.base import Entry, Found, Source, printable
from diffussm.data.sources.files import read_file, read_text, reading
from diffussm.data.sources.folder import ImageFolder, image_files
from diffussm.errors import UserError

WNID = re.compile(r"n\d{8}")
VALIDATION = re.compile(r"ILSVRC2012_val_(\d{8})\.\w+")
SOLUTION, DEVKIT = "LOC_val_solution.csv", "ILSVRC2012_devkit_t12"
_META, _TRUTH = "data/meta.mat", "data/ILSVRC2012_validation_ground_truth.txt"
_KAGGLE = ("", "CLS-LOC", "Data/CLS-LOC", "ILSVRC/Data/CLS-LOC")  # where train, val and test lie
_MAX_BYTES = 1 << 26  # of a file of the devkit


@dataclass(frozen=True)
class FlatValidation:
    """The validation images in one folder. `truth` names their classes: Kaggle's solution or the devkit; None: no
    labels."""

    path: Path
    truth: Path | None
    kind: ClassVar[str] = "imagenet-val"
    shape: ClassVar[None] = None

    def listed(self) -> Found:
        listing = image_files(self.path)
        if self.truth is None:
            return Found([Entry(name, size) for name, size in listing.found], (), listing.counts, listing.modified)
        wnids, classes = ground_truth(self.truth)
        index = {wnid: label for label, wnid in enumerate(classes)}
        entries = []
        for name, size in listing.found:
            match = VALIDATION.fullmatch(name)
            if not match or int(match[1]) not in wnids:
                raise UserError(f"{self.path}/{printable(name)}: {self.truth} says nothing of this image; remove it")
            entries.append(Entry(name, size, index[wnids[int(match[1])]]))
        return Found(entries, classes, listing.counts, listing.modified)

    def read(self, entry: Entry) -> bytes:
        return ImageFolder(self.path).read(entry)

    def naming(self, entry: Entry) -> str:
        return ImageFolder(self.path).naming(entry)


def imagenet(path: Path, split: str, truth: Path | None, labelled: bool) -> Source | None:
    """Return the source if ImageNet lies in the folder; None otherwise.

    The ground truth of a flat validation set, which is needed if it is `labelled`, is looked for near it unless it is
    given.
    """
    if _is_flat_validation(path):
        if split not in ("", "val"):
            raise UserError(f"{path}: --split {split}: this is ImageNet's flat validation set")
        return _validation(path, truth, labelled)
    for inner in _KAGGLE:
        base = path / inner
        if _has_wnids(base / "train") or _has_wnids(base / "val") or _is_flat_validation(base / "val"):
            folder = base / (split or "train")
            if not folder.is_dir():
                raise UserError(f"{folder}: no such folder; choose another with --split")
            return (
                _validation(folder, truth, labelled) if _is_flat_validation(folder) else ImageFolder(folder, "imagenet")
            )
    return ImageFolder(path, "imagenet") if not split and _has_wnids(path) else None


def ground_truth(path: Path) -> tuple[dict[int, str], tuple[str, ...]]:
    """Return the wnid of each validation image by its number, and all wnids, sorted.

    `path` is Kaggle's solution, the devkit's folder or its .tar.gz. Raises UserError if it is damaged.
    """
    if path.suffix == ".csv":
        wnids = _from_solution(path)
        return wnids, tuple(sorted(set(wnids.values())))
    meta, truth = _from_tar(path) if path.is_file() else _from_folder(path)
    synsets = _synsets(meta, path)
    wnids = {}
    for number, line in enumerate(truth.split(), 1):
        if not line.isdigit() or int(line) not in synsets:
            raise UserError(f"{path}: {_TRUTH}: line {number}: {printable(line.decode(errors='replace'))} is no class")
        wnids[number] = synsets[int(line)]
    return wnids, tuple(sorted(synsets.values()))


def _is_flat_validation(folder: Path) -> bool:
    return folder.is_dir() and any(VALIDATION.fullmatch(path.name) for path in folder.iterdir())


def _has_wnids(folder: Path) -> bool:
    return folder.is_dir() and any(WNID.fullmatch(path.name) for path in folder.iterdir())


def _validation(folder: Path, truth: Path | None, labelled: bool) -> FlatValidation:
    if not labelled:
        return FlatValidation(folder, None)
    if truth is None:
        places = (folder, *folder.absolute().parents[:4])
        near = (place / name for place in places for name in (SOLUTION, DEVKIT, f"{DEVKIT}.tar.gz"))
        truth = next(filter(Path.exists, near), None)
    if truth is None:
        raise UserError(
            f"{folder}: is ImageNet's flat validation set; its classes are in {DEVKIT}.tar.gz, or Kaggle's {SOLUTION}: "
            "put one beside it or give --devkit PATH, or take the images without classes by --labels none"
        )
    return FlatValidation(folder, truth)


def _from_solution(path: Path) -> dict[int, str]:
    """Of lines `ILSVRC2012_val_00048981,n03995372 85 1 499 272`, after a title."""
    wnids = {}
    for number, line in enumerate(read_text(path).splitlines()[1:], 2):
        match = re.match(r"ILSVRC2012_val_(\d{8}),(n\d{8})\b", line)
        if not match:
            raise UserError(f"{path}: line {number}: expected `ILSVRC2012_val_00000001,n01751748 ...`")
        wnids[int(match[1])] = match[2]
    if not wnids:
        raise UserError(f"{path}: names no image")
    return wnids


def _from_folder(path: Path) -> tuple[bytes, bytes]:
    return read_file(path / _META, _MAX_BYTES), read_file(path / _TRUTH, _MAX_BYTES)


def _from_tar(path: Path) -> tuple[bytes, bytes]:
    contents: dict[str, bytes] = {}
    with reading(path, "a .tar.gz"), tarfile.open(path) as archive:
        for member in archive:
            for name in (_META, _TRUTH):
                file = archive.extractfile(member) if f"/{member.name}".endswith(f"/{name}") else None
                if file is not None and member.size <= _MAX_BYTES:
                    contents[name] = file.read()
    if missing := [name for name in (_META, _TRUTH) if name not in contents]:
        raise UserError(f"{path}: holds no {' nor '.join(missing)}; needed is {DEVKIT}.tar.gz")
    return contents[_META], contents[_TRUTH]


def _synsets(content: bytes, path: Path) -> dict[int, str]:
    """Return the wnids of the classes, those without children, by the devkit's ids."""
    from scipy.io import loadmat

    try:
        table: Any = loadmat(io.BytesIO(content), squeeze_me=True, variable_names=["synsets"])["synsets"]
        columns = (table["ILSVRC2012_ID"].ravel(), table["WNID"].ravel(), table["num_children"].ravel())
        synsets = {int(i): str(wnid) for i, wnid, children in zip(*columns, strict=True) if not int(children)}
    except Exception:  # scipy may raise any exception on a damaged file
        raise UserError(f"{path}: {_META}: is damaged, or not of ILSVRC 2012") from None
    if not synsets or not all(map(WNID.fullmatch, synsets.values())):
        raise UserError(f"{path}: {_META}: is damaged, or not of ILSVRC 2012: it lists no wnids")
    return synsets
