"""Which kind of source lies at a path."""

from pathlib import Path
from typing import Literal

from diffussm.data.sources import idx
from diffussm.data.sources.base import Source
from diffussm.data.sources.cifar import FILES as CIFAR_FILES
from diffussm.data.sources.cifar import Cifar10
from diffussm.data.sources.folder import ImageFolder
from diffussm.data.sources.idx import IdxFiles
from diffussm.data.sources.imagenet import FlatValidation, imagenet
from diffussm.data.sources.lsun.source import lsun
from diffussm.data.sources.npz import NpzSamples
from diffussm.data.sources.webdataset import WebDataset, is_webdataset
from diffussm.data.sources.zip import ZipOfImages
from diffussm.errors import UserError

_SPLIT_NAMES = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
SPLITS = tuple(_SPLIT_NAMES)
READ = (
    "a folder of images, a .zip of them, an .npz of samples, ImageNet, CIFAR-10's binary version (.tar.gz), idx files, "
    "LSUN's LMDB, or WebDataset's .tar"
)


def open_source(path: Path, split: str = "", devkit: Path | None = None, labelled: bool = True) -> Source:
    """Return the source at `path`; `split` ("": train) chooses of those that have several.

    `devkit` has the labels of ImageNet's flat validation set; without `labelled` they are not needed. Raises UserError
    if there is no source, or not that split.
    """
    source = _find(path, split, devkit, labelled)
    if devkit is not None and not labelled:
        raise UserError(f"--devkit {devkit}: not used: the classes of {path} come from --labels; leave one of them out")
    if devkit is not None and not isinstance(source, FlatValidation):
        raise UserError(f"--devkit {devkit}: {path} is not ImageNet's flat validation set, which alone needs it")
    return source


def _find(path: Path, split: str, devkit: Path | None, labelled: bool) -> Source:
    if split not in ("", *SPLITS):
        raise UserError(f"--split {split}: allowed: {', '.join(SPLITS)}")
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    if path.is_dir():
        return _in_folder(path, split, devkit, labelled)
    if not path.is_file():
        raise UserError(f"{path}: is neither a regular file nor a folder; read are {READ}")
    with path.open("rb") as file:
        start = file.read(4)
    if path.name.endswith(".tar"):
        return _without_splits(WebDataset(path), split)
    if path.name.endswith((".tar.gz", ".tgz")):
        return Cifar10(path, _train_or_test(path, split))
    source: Source
    if start[:2] == b"PK":
        source = NpzSamples(path) if path.suffix.lower() == ".npz" else ZipOfImages(path)
    elif start[:2] == b"\0\0" or (start[:2] == b"\x1f\x8b" and idx.IMAGES_FILE.fullmatch(path.name)):
        source = IdxFiles(path)
    elif path.suffix.lower() in (".npz", ".zip"):
        raise UserError(f"{path}: is damaged or not {'an' if path.suffix == '.npz' else 'a'} {path.suffix.lower()}")
    else:
        raise UserError(f"{path}: is none of what is read: {READ}")
    return _without_splits(source, split)


def _in_folder(path: Path, split: str, devkit: Path | None, labelled: bool) -> Source:
    for folder in (path, path / "cifar-10-batches-bin"):
        if any((folder / file).exists() for files in CIFAR_FILES.values() for file in files):
            return Cifar10(folder, _train_or_test(path, split))
    for folder in (path, path / "cifar-10-batches-py"):
        if (folder / "data_batch_1").is_file():
            raise UserError(f"{folder}: holds CIFAR-10 as Python pickles, which are not read; get the binary version")
    if file := idx.images_file(path, split or "train"):
        return IdxFiles(file)
    if source := imagenet(path, split, devkit, labelled) or lsun(path, split):
        return source
    if is_webdataset(path):
        return _without_splits(WebDataset(path), split)
    if inner := next((path / name for name in _SPLIT_NAMES.get(split, ()) if (path / name).is_dir()), None):
        return ImageFolder(inner)
    return _without_splits(ImageFolder(path), split)


def _train_or_test(path: Path, split: str) -> Literal["train", "test"]:
    if split == "val":
        raise UserError(f"{path}: --split val: this source has train and test")
    return "test" if split == "test" else "train"


def _without_splits(source: Source, split: str) -> Source:
    if split:
        raise UserError(f"{source.path}: --split {split}: this source ({source.kind}) has no splits")
    return source
