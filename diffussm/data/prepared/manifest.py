"""The manifest of a prepared data set. No NumPy: plans read it."""

import functools
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from diffussm.config.schema import Count, Positive
from diffussm.errors import UserError
from diffussm.store.names import Name
from diffussm.store.reading import StoredModel, read_model

MANIFEST = "manifest.json"
FORMAT: Literal[1] = 1
SHA256 = r"^[0-9a-f]{64}$"


class StoredFile(StoredModel):
    """A file of the data set."""

    file: Name
    sha256: str = Field(pattern=SHA256)


class Shard(StoredModel):
    """Consecutive images, in one file for each of their arrays."""

    images: Positive
    arrays: dict[str, StoredFile] = Field(description="by name of the array: pixels")


class Source(StoredModel):
    """Where the images came from."""

    kind: str = Field(description="format of the source, such as folder or cifar10")
    listing_sha256: str = Field(pattern=SHA256, description="of the names, sizes and labels of what was found")
    taken: Count
    skipped: dict[str, Count] = Field(description="reason to number of files")
    notes: dict[str, Count] = Field(
        description="what was done to images that are not plain RGB or grey, to their number"
    )


class Manifest(StoredModel):
    """What a prepared data set holds."""

    repair: ClassVar[str] = "prepare the data set again, or restore the file"

    format: Literal[1] = Field(description="version of the format")
    digest: str = Field(pattern=SHA256, description="of what training reads: kind, shape, values and labels")
    kind: Literal["pixels"]
    count: Positive
    image_size: Positive
    channels: Positive
    transform: str = Field(description="what was done to each image, such as centre-crop 64")
    flips: Literal["none"] = Field(description="none: images are stored once, and flipped in training if at all")
    classes: tuple[str, ...] = Field(description="names in the order of the labels; empty: no labels")
    labels: StoredFile
    image_sha256: StoredFile
    sources: StoredFile
    broken: StoredFile | None = Field(None, description="images that were left out as broken, and why; none: no image")
    shards: tuple[Shard, ...] = Field(min_length=1)
    source: Source
    versions: dict[str, str] = Field(description="of the tools that made it")


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a prepared data set, read again only if its file is replaced or changed.

    Raises UserError, which names the folder, if it is none, or if its manifest is damaged.
    """
    try:
        status = (folder / MANIFEST).stat()
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"{folder}: not a prepared data set (no {MANIFEST}); make one with `diffussm data prepare`"
        ) from None
    return _read(folder.absolute(), status.st_ino, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _read(folder: Path, *_version: int) -> Manifest:
    path = folder / MANIFEST
    manifest = read_model(path, Manifest)
    if manifest.count != sum(shard.images for shard in manifest.shards):
        raise UserError(f"{path}: is damaged: its shards do not hold {manifest.count} images; {Manifest.repair}")
    return manifest


def content_digest(
    kind: str, shape: tuple[int, int, int], classes: int, image_sha256: bytes | memoryview, labels: bytes | memoryview
) -> str:
    """Return the digest of what training reads.

    `shape` is (C, H, W), `image_sha256` the 32 bytes of each image's SHA-256 in order, `labels` their labels as
    little-endian int64.
    """
    header = json.dumps({"kind": kind, "shape": shape, "classes": classes}, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(header.encode() + b"\n")
    digest.update(image_sha256)
    digest.update(labels)
    return digest.hexdigest()


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn an error of the file system into a UserError that names the file."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; {Manifest.repair}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error  # a disk may come back
