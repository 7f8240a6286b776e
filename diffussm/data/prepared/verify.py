"""Comparing every file of a prepared data set with its SHA-256."""

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from diffussm.data.prepared.manifest import MANIFEST, Manifest, StoredFile, read_manifest
from diffussm.data.prepared.reader import PreparedItems
from diffussm.data.sources.base import printable
from diffussm.errors import UserError
from diffussm.host.machine import usable_cores
from diffussm.store.reading import open_regular


def find_damage(folder: Path, progress: Callable[[int], None]) -> list[str]:
    """Return a line for each file that is missing, damaged or not of the set; call `progress` with the files checked.

    Raises UserError if there is no manifest, or a damaged one.
    """
    manifest = read_manifest(folder)
    stored = stored_files(manifest)
    found = []
    with ThreadPoolExecutor(usable_cores()) as pool:
        for done, problem in enumerate(pool.map(partial(_problem, folder), stored), 1):
            found += [problem] if problem else []
            progress(done)
    known = {MANIFEST, *(file.file for file in stored)}
    others = sorted(path.name for path in folder.iterdir() if path.name not in known)
    found += [f"{printable(name)}: is no file of the data set" for name in others]
    if not found:
        try:
            PreparedItems(folder)
        except UserError as error:  # its files are those of the manifest, but do not fit each other
            found.append(f"{MANIFEST}: {error}")
    return found


def stored_files(manifest: Manifest) -> list[StoredFile]:
    """Return all files but the manifest."""
    others = [manifest.labels, manifest.image_sha256, manifest.sources, manifest.broken]
    arrays = [file for shard in manifest.shards for file in shard.arrays.values()]
    return [file for file in others if file] + arrays


def _problem(folder: Path, stored: StoredFile) -> str:
    """Return what is wrong with a file; "" if nothing is."""
    try:
        with open_regular(folder / stored.file, UserError) as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return f"{stored.file}: is missing"
    except UserError as error:
        return f"{stored.file}: {error}"
    except OSError as error:
        return f"{stored.file}: cannot be read: {error.strerror}"
    return "" if found == stored.sha256 else f"{stored.file}: is damaged: its SHA-256 is not that of the manifest"
