"""Comparing every file of a prepared data set with its SHA-256."""

import hashlib
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import FileIO
from pathlib import Path

from diffussm.data.prepared.manifest import MANIFEST, Manifest, StoredFile, read_manifest
from diffussm.data.prepared.reader import PreparedItems
from diffussm.data.sources.base import printable
from diffussm.errors import UserError
from diffussm.host.machine import usable_cores
from diffussm.store.reading import open_regular

_BLOCK = 1 << 22  # bytes read at once


def find_damage(folder: Path, progress: Callable[[int], None]) -> list[str]:
    """Return a line for each file that is missing, damaged or not of the set; call `progress` with the files checked.

    Raises UserError if there is no manifest, or a damaged one.
    """
    manifest = read_manifest(folder)
    stored = stored_files(manifest)
    items, found = None, []
    try:
        items = PreparedItems(folder)
    except UserError as error:
        unfit = [f"{MANIFEST}: {error}"]
    shards = {shard.arrays[manifest.array].file: number for number, shard in enumerate(manifest.shards)}
    with ThreadPoolExecutor(usable_cores()) as pool:
        problems = pool.map(lambda file: _problem(folder, file, items, shards.get(file.file)), stored)
        for done, problem in enumerate(problems, 1):
            found += [problem] if problem else []
            progress(done)
    known = {MANIFEST, *(file.file for file in stored)}
    others = sorted(path.name for path in folder.iterdir() if path.name not in known)
    found += [f"{printable(name)}: is no file of the data set" for name in others]
    if items is None and not found:  # its files are those of the manifest, but do not fit each other
        return unfit
    return found


def stored_files(manifest: Manifest) -> list[StoredFile]:
    """Return all files but the manifest."""
    others = [manifest.labels, manifest.image_sha256, manifest.sources, manifest.broken]
    arrays = [file for shard in manifest.shards for file in shard.arrays.values()]
    return [file for file in others if file] + arrays


def _problem(folder: Path, stored: StoredFile, items: PreparedItems | None, shard: int | None) -> str:
    """Return what is wrong with a file, that of a shard if it has a number; "" if nothing is.

    The views of a shard are compared with their own SHA-256 if the set's `items` are at hand.
    """
    path = folder / stored.file
    try:
        with open_regular(path, UserError) as file:
            if items is None or shard is None:
                found, unfit = hashlib.file_digest(file, "sha256").hexdigest(), ""
            else:
                found, unfit = _digest_of_shard(file, path, items, shard)
    except FileNotFoundError:
        return f"{stored.file}: is missing"
    except UserError as error:
        return f"{stored.file}: {error}"
    except OSError as error:
        return f"{stored.file}: cannot be read: {error.strerror}"
    if found != stored.sha256:
        return f"{stored.file}: is damaged: its SHA-256 is not that of the manifest"
    return f"{stored.file}: {unfit}" if unfit else ""


def _digest_of_shard(file: FileIO, path: Path, items: PreparedItems, shard: int) -> tuple[str, str]:
    """Return the SHA-256 of a shard's file, and how it is not what the set says of it, "" if it is."""
    try:
        header, unfit = items.header_of(shard, file, path), ""
    except UserError as error:
        return hashlib.file_digest(file, "sha256").hexdigest(), str(error).removeprefix(f"{path}: ")
    size, expected = math.prod(items.view_shape) * items.item_bytes, items.views_of(shard)
    digest = hashlib.sha256(file.read(header))
    each = max(1, _BLOCK // size)
    for first in range(0, len(expected), each):
        views = expected[first : first + each]
        content = memoryview(file.read(size * len(views)))
        digest.update(content)
        for at, sha256 in enumerate(views):
            if not unfit and hashlib.sha256(content[at * size : (at + 1) * size]).digest() != sha256.tobytes():
                unfit = f"item {first + at} of it has another SHA-256 than {items.manifest.image_sha256.file} states"
    while rest := file.read(_BLOCK):
        digest.update(rest)
        unfit = unfit or "has bytes behind its values"
    return digest.hexdigest(), unfit
