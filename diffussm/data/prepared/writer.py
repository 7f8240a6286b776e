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
    Manifest,
    Shard,
    Source,
    StoredFile,
    content_digest,
)
from diffussm.store.writing import flush_to_disk, temporary_beside, write_atomically


class WrittenShard(NamedTuple):
    """A shard that is on disk, and the SHA-256 of each of its images, (n, 32)."""

    shard: Shard
    image_sha256: NDArray[np.uint8]


def write_shard(folder: Path, number: int, pixels: NDArray[np.uint8]) -> WrittenShard:
    """Write the images (n, C, H, W) as shard `number`."""
    stored = _write_array(folder / f"pixels-{number:05d}.npy", pixels)
    hashes = b"".join(hashlib.sha256(image.data).digest() for image in np.ascontiguousarray(pixels))
    shard = Shard(images=len(pixels), arrays={"pixels": stored})
    return WrittenShard(shard, np.frombuffer(hashes, dtype=np.uint8).reshape(-1, 32))


def write_manifest(
    folder: Path,
    shards: Sequence[WrittenShard],
    shape: tuple[int, int, int],
    labels: NDArray[np.int64],
    classes: tuple[str, ...],
    transform: str,
    names: Iterable[str],
    source: Source,
    versions: dict[str, str],
    broken: Sequence[str] = (),
) -> Manifest:
    """Write what belongs to the shards, which are on disk, and the manifest, which makes them a data set.

    `shape` is (C, H, W); `names` says of each image where it came from, `broken` of each that was left out as broken
    why.
    """
    image_sha256 = np.concatenate([written.image_sha256 for written in shards])
    labels = labels.astype("<i8")
    manifest = Manifest(
        format=FORMAT,
        digest=content_digest("pixels", shape, len(classes), image_sha256.tobytes(), labels.tobytes()),
        kind="pixels",
        count=len(labels),
        image_size=shape[1],
        channels=shape[0],
        transform=transform,
        flips="none",
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
