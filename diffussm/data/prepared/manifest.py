"""The manifest of a prepared data set. No NumPy: plans read it."""

import functools
import hashlib
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from diffussm.config.schema import SHA256_OR_EMPTY, Count, Positive
from diffussm.errors import UserError
from diffussm.store.names import Name
from diffussm.store.reading import StoredModel, read_model

MANIFEST = "manifest.json"
FORMAT: Literal[1] = 1
Kind = Literal["pixels", "mean-std", "sample"]
Flips = Literal["none", "paired", "baked"]
SHA256 = r"^[0-9a-f]{64}$"


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("allowed: printable characters")
    return text


Printable = Annotated[str, AfterValidator(_printable)]


class StoredFile(StoredModel):
    """A file of the data set."""

    file: Name
    sha256: str = Field(pattern=SHA256)


class Shard(StoredModel):
    """Consecutive images, in one file for each of their arrays."""

    images: Positive
    arrays: dict[str, StoredFile] = Field(description="by name of the array: pixels or latents")


class Source(StoredModel):
    """Where the images came from."""

    kind: str = Field(description="format of the source, such as folder or cifar10")
    listing_sha256: str = Field(pattern=SHA256, description="of the names, sizes and labels of what was found")
    taken: Count
    skipped: dict[str, Count] = Field(description="reason to number of files")
    notes: dict[str, Count] = Field(
        description="what was done to images that are not plain RGB or grey, to their number"
    )


class Rounding(StoredModel):
    """The error of storing values as float16, in their own units."""

    largest: float = Field(ge=0)
    rms: float = Field(ge=0, description="root of the mean square")


class Encoding(StoredModel):
    """How an autoencoder was run: with another device, precision or batch size, the last bits differ."""

    device: str
    precision: str
    batch: Positive


class LatentFacts(StoredModel):
    """What latents are, and how they become images.

    `scale` and `shift` have one value or one per channel. The network sees z = (x - shift) * scale, with x a latent of
    the autoencoder; images are decoded from z / scale + shift.
    """

    vae_sha256: str = Field(pattern=SHA256_OR_EMPTY, description="of the autoencoder; empty: unknown")
    vae_range: tuple[float, float] = Field(description="what black and white are for the autoencoder")
    scale: tuple[float, ...] = Field(min_length=1)
    shift: tuple[float, ...] = Field(min_length=1)
    scaled: bool = Field(description="whether scale and shift are applied in what is stored")
    decoded_size: Positive = Field(description="pixels per side of the images")
    baked: tuple[str, ...] = Field(description="what would be drawn anew in each epoch, and is the same in all")
    dtype: Literal["float32", "float16"]
    mean_rounding: Rounding | None = Field(None, description="of the means or samples, in float16")
    std_rounding: Rounding | None = Field(None, description="of the standard deviations, in float16")
    encoding: Encoding | None = Field(None, description="none: they were encoded elsewhere")

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        black, white = self.vae_range
        if not all(map(math.isfinite, (*self.scale, *self.shift, black, white))) or 0 in self.scale or black >= white:
            raise ValueError("scale, shift and vae_range must be finite, scale not zero, black below white")
        return self


class Manifest(StoredModel):
    """What a prepared data set holds."""

    repair: ClassVar[str] = "prepare the data set again, or restore the file"

    format: Literal[1] = Field(description="version of the format")
    digest: str = Field(pattern=SHA256, description="of what training reads: kind, shape, values and labels")
    kind: Kind = Field(description="pixels; of latents, mean-std: of the posterior, or sample: one of the posterior")
    count: Positive
    image_size: Positive
    channels: Positive
    transform: str = Field(description="what was done to each image, such as centre-crop 64")
    flips: Flips = Field(
        description="none: each is stored once, as it is; paired: also mirrored; baked: some are stored mirrored"
    )
    latents: LatentFacts | None = Field(None, description="none: the data are pixels")
    classes: tuple[Printable, ...] = Field(description="names in the order of the labels; empty: no labels")
    labels: StoredFile
    image_sha256: StoredFile
    sources: StoredFile
    broken: StoredFile | None = Field(None, description="images that were left out as broken, and why; none: no image")
    shards: tuple[Shard, ...] = Field(min_length=1)
    source: Source
    versions: dict[str, str] = Field(description="of the tools that made it")

    @property
    def array(self) -> str:
        """The name of the array that each shard has."""
        return "pixels" if self.latents is None else "latents"

    @property
    def item_shape(self) -> tuple[int, ...]:
        """The shape of what is stored of an image."""
        return item_shape(self.kind, self.flips, (self.channels, self.image_size, self.image_size))

    @property
    def views(self) -> int:
        """How often an image is stored, each with its own SHA-256."""
        return 2 if self.flips == "paired" else 1

    @property
    def dtype(self) -> str:
        """NumPy's name of the type of what is stored."""
        return "|u1" if self.latents is None else {"float32": "<f4", "float16": "<f2"}[self.latents.dtype]

    @model_validator(mode="after")
    def _is_of_its_kind(self) -> Self:
        if (self.kind == "pixels") != (self.latents is None) or (self.kind == "pixels" and self.flips != "none"):
            raise ValueError("latents: is for the kinds mean-std and sample, as flips are")
        for values in (self.latents.scale, self.latents.shift) if self.latents else ():
            if len(values) not in (1, self.channels):
                raise ValueError(f"scale, shift: allowed: one value, or one for each of {self.channels} channels")
        for number, shard in enumerate(self.shards):
            if list(shard.arrays) != [self.array]:
                raise ValueError(f"shards.{number}.arrays: {list(shard.arrays)}: allowed: {self.array}")
        if self.kind == "pixels" and self.channels not in (1, 3):
            raise ValueError(f"channels = {self.channels}: allowed: 1 or 3")
        return self


def item_shape(kind: Kind, flips: Flips, shape: tuple[int, int, int]) -> tuple[int, ...]:
    """Return the shape of what is stored of an image: (C, H, W), of latents (F, 2, C, h, w) or (F, C, h, w).

    F is 2 for paired flips, else 1; 2 are mean and standard deviation.
    """
    if kind == "pixels":
        return shape
    return (2 if flips == "paired" else 1, *([2] if kind == "mean-std" else []), *shape)


def check_mirrored(folder: Path, flips: Flips) -> None:
    """Raise UserError, about `data.flip`, unless the latents of this set are stored mirrored too."""
    if flips != "paired":
        hint = "set it to false" if flips == "baked" else "prepare them with --flips, or set it to false"
        raise UserError(
            f"data.flip = true: the latents in {folder} have flips: {flips}, and cannot be mirrored; {hint}"
        )


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
    except PermissionError as error:
        raise UserError(f"{folder}: cannot be read as a prepared data set: {error.strerror}") from None
    return _read(folder.absolute(), status.st_ino, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _read(folder: Path, *_version: int) -> Manifest:
    path = folder / MANIFEST
    manifest = read_model(path, Manifest)
    if manifest.count != sum(shard.images for shard in manifest.shards):
        raise UserError(f"{path}: is damaged: its shards do not hold {manifest.count} images; {Manifest.repair}")
    return manifest


def content_digest(
    kind: Kind,
    shape: tuple[int, int, int],
    classes: int,
    image_sha256: bytes | memoryview,
    labels: bytes | memoryview,
    flips: Flips = "none",
    latents: LatentFacts | None = None,
) -> str:
    """Return the digest of what training reads.

    `shape` is (C, H, W), `image_sha256` the 32 bytes of each stored view's SHA-256 in order, `labels` their labels as
    little-endian int64.
    """
    read: dict[str, Any] = {"kind": kind, "shape": shape, "classes": classes}
    if latents:
        read |= {"flips": flips, **latents.model_dump(mode="json", include={"scale", "shift", "scaled", "dtype"})}
    digest = hashlib.sha256(json.dumps(read, sort_keys=True, separators=(",", ":")).encode() + b"\n")
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
