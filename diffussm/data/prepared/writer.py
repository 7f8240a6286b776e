"""Writing of a prepared data set: shards one by one, in any order, and the manifest last."""

import hashlib
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from diffussm.data.prepared.manifest import (
    FORMAT,
    MANIFEST,
    Flips,
    Kind,
    LatentFacts,
    Manifest,
    Shard,
    Source,
    StoredFile,
    content_digest,
    item_shape,
)
from diffussm.store.writing import flush_to_disk, temporary_beside, write_atomically


class Content(NamedTuple):
    """What a data set stores of its images."""

    kind: Kind
    shape: tuple[int, int, int]  # (C, H, W), of pixels or of latents
    transform: str
    flips: Flips = "none"
    latents: LatentFacts | None = None

    @property
    def views(self) -> int:
        """How often an image is stored, each with its own SHA-256."""
        return 2 if self.flips == "paired" else 1

    @property
    def item_bytes(self) -> int:
        """Bytes of a value."""
        return 1 if self.latents is None else {"float32": 4, "float16": 2}[self.latents.dtype]

    @property
    def making(self) -> dict[str, str]:
        """What else the bytes of latents depend on, as texts by name."""
        if self.latents is None:
            return {}
        facts = self.latents.model_dump(mode="json", exclude_none=True)
        facts |= {"kind": self.kind, "flips": self.flips, **facts.pop("encoding", {})}
        return {name: str(value) for name, value in facts.items()}

    @property
    def array(self) -> str:
        """The name of the array."""
        return "pixels" if self.latents is None else "latents"

    @property
    def item_shape(self) -> tuple[int, ...]:
        """The shape of what is stored of an image: (C, H, W), of latents (F, 2, C, h, w) or (F, C, h, w).

        F is 2 for paired flips, else 1; 2 are mean and standard deviation.
        """
        return item_shape(self.kind, self.flips, self.shape)


class WrittenShard(NamedTuple):
    """A shard that is on disk, and the SHA-256 of each view of its images, (views, 32)."""

    shard: Shard
    image_sha256: NDArray[np.uint8]


def write_shard(folder: Path, number: int, items: NDArray[Any], array: str = "pixels") -> WrittenShard:
    """Write what is stored of consecutive images as shard `number`.

    `items` are pixels (n, C, H, W) or, as `array` then says, latents (n, F, ...), each of whose F views has a hash.
    """
    items = np.ascontiguousarray(items)
    stored = _write_array(folder / f"{array}-{number:05d}.npy", items)
    views = items if array == "pixels" else items.reshape(-1, *items.shape[2:])
    hashes = b"".join(hashlib.sha256(view.data).digest() for view in views)
    shard = Shard(images=len(items), arrays={array: stored})
    return WrittenShard(shard, np.frombuffer(hashes, dtype=np.uint8).reshape(-1, 32))


def write_manifest(
    folder: Path,
    shards: Sequence[WrittenShard],
    content: Content,
    labels: NDArray[np.int64],
    classes: tuple[str, ...],
    names: Iterable[str],
    source: Source,
    versions: dict[str, str],
    broken: Sequence[str] = (),
) -> Manifest:
    """Write what belongs to the shards, which are on disk, and the manifest, which makes them a data set.

    `names` says of each image where it came from, `broken` of each that was left out as broken
    why.
    """
    kind, shape, transform, flips, latents = content
    image_sha256 = np.concatenate([written.image_sha256 for written in shards])
    labels = labels.astype("<i8")
    manifest = Manifest(
        format=FORMAT,
        digest=content_digest(kind, shape, len(classes), image_sha256.tobytes(), labels.tobytes(), flips, latents),
        kind=kind,
        count=len(labels),
        image_size=shape[1],
        channels=shape[0],
        transform=transform,
        flips=flips,
        latents=latents,
        classes=classes,
        labels=_write_array(folder / "labels.npy", labels),
        image_sha256=_write_array(folder / "sha256.npy", image_sha256),
        sources=_write_lines(folder / "sources.txt", names),
        broken=_write_lines(folder / "broken.txt", broken) if broken else None,
        shards=tuple(written.shard for written in shards),
        source=source,
        versions=versions,
    )
    write_atomically(folder / MANIFEST, manifest.model_dump_json(indent=1).encode())
    return manifest


def _write_lines(path: Path, lines: Iterable[str]) -> StoredFile:
    content = "".join(f"{line}\n" for line in lines).encode()
    write_atomically(path, content)
    return StoredFile(file=path.name, sha256=hashlib.sha256(content).hexdigest())


def _write_array(path: Path, array: NDArray[Any]) -> StoredFile:
    """Write an .npy file of version 1.0."""
    array = np.ascontiguousarray(array)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    parts = (header.getbuffer(), array.reshape(-1).data.cast("B"))
    digest = hashlib.sha256()
    with temporary_beside(path) as temporary:
        with temporary.open("xb") as file:
            for part in parts:
                file.write(part)
                digest.update(part)
            flush_to_disk(file)
        os.replace(temporary, path)
    return StoredFile(file=path.name, sha256=digest.hexdigest())
