"""Making a data set: from a recipe and a selection of images to shards and a manifest."""

import hashlib
import math
import sys
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from PIL import features

from diffussm.data.prepared.manifest import Manifest, Rounding, Shard, Source, read_manifest
from diffussm.data.prepared.writer import Content, WrittenShard, write_manifest
from diffussm.data.preparing.lock import locked
from diffussm.data.preparing.partial import (
    FinishedShard,
    PartialSet,
    Plan,
    check_is_partial,
    is_published,
    partial_folder,
)
from diffussm.data.preparing.recipe import Recipe
from diffussm.data.preparing.selection import Selection
from diffussm.data.preparing.workers.ranks import interrupted_by_sigterm, make_shards_by_ranks
from diffussm.data.sources.base import Broken, Entry, Found, printable
from diffussm.distributed.group import SINGLE_PROCESS, LostProcess, ProcessGroup
from diffussm.errors import UserError
from diffussm.progress import Progress

SHARD_BYTES = 1 << 27
SHARDS = 64  # that a set is split into, if they are smaller than that: so that several processes can share the work
LEAST_IMAGES = 256  # of a shard


def build(
    out: Path,
    recipe: Recipe,
    found: Found,
    selection: Selection,
    processes: int = 1,
    group: ProcessGroup = SINGLE_PROCESS,
) -> Manifest:
    """Make the data set `out` of the selected images, or continue to make it; return its manifest.

    Raises UserError for a broken image, and if `out` exists. Then nothing is left but finished shards in `out.partial`,
    with which the same call continues. The processes of a group share the work; rank zero holds the lock.
    """
    with ExitStack() as lock:
        partial = group.on_rank_zero(lambda: _begun(out, recipe, found, selection, lock))
        if partial is None:
            return read_manifest(out)
        return _made(recipe, partial, selection, processes, group)


def _begun(out: Path, recipe: Recipe, found: Found, selection: Selection, lock: ExitStack) -> PartialSet | None:
    """Lock the set that is begun or continued, and return it; None if it is complete."""
    check_place(recipe.source.path, out)
    plan = _plan(recipe, found, selection)
    lock.enter_context(locked(partial_folder(out)))
    if is_published(out, plan):
        return None
    if out.exists():
        raise _exists(out)
    return PartialSet(out, plan)


def check_place(source: Path, out: Path) -> None:
    """Raise UserError if no data set can be made there of that source."""
    if not out.name:
        raise UserError(f"{out}: exists; choose the name of a folder that is to be made")
    if out.is_symlink() and not out.exists():
        raise UserError(f"{out}: is a link to nothing; remove it, or choose another name")
    partial = partial_folder(out)
    if out.exists() and not partial.exists():
        raise _exists(out)
    here, there = source.resolve(), out.resolve()
    if source.is_dir() and here in (there, *there.parents):
        raise UserError(f"{out}: lies in the source {source}; choose a place outside of it")
    if partial.resolve() in (here, *here.parents):
        raise UserError(f"{out}: would be made in {partial}, where the source is; choose another name")
    check_is_partial(partial)


def _exists(out: Path) -> UserError:
    return UserError(f"{out}: already exists; remove it, or choose another name")


def _made(recipe: Recipe, partial: PartialSet, selection: Selection, processes: int, group: ProcessGroup) -> Manifest:
    """Return the manifest of the set, after making what is missing of it."""
    try:
        with interrupted_by_sigterm(group):
            shards = _shards(recipe, partial, selection.entries, processes, group)
            manifest = group.on_rank_zero(lambda: _finish(partial, shards, selection, recipe))
    except (UserError, OSError) as error:  # on all ranks
        kept = group.on_rank_zero(partial.abandon)
        if kept and isinstance(error, UserError):
            raise UserError(f"{error}; {kept}") from None
        _say_kept(partial.out, kept)
        raise
    except KeyboardInterrupt:  # perhaps on this rank alone
        alone = group.world_size == 1
        _say_kept(partial.out, partial.abandon() if alone else f"finished shards are kept in {partial.path}")
        raise
    except LostProcess:
        raise UserError(
            f"{partial.out}: another process has ended; finished shards are kept in {partial.path}; the same command, "
            "by any number of processes, continues"
        ) from None
    group.on_rank_zero(partial.publish)
    return manifest


def _say_kept(out: Path, kept: str) -> None:
    if kept:
        print(f"{out}: {kept}; the same command continues", file=sys.stderr)


def _plan(recipe: Recipe, found: Found, selection: Selection) -> Plan:
    count, content = len(selection.entries), recipe.content
    channels, image_size, _ = content.shape
    return Plan(
        kind=recipe.source.kind,
        source=_digest(found.entries),
        modified=found.modified,
        selection=_digest(selection.entries),
        images=count,
        channels=channels,
        image_size=image_size,
        transform=content.transform,
        classes=selection.classes,
        images_per_shard=images_per_shard(count, math.prod(content.item_shape) * content.item_bytes),
        views=content.views,
        versions=_versions(content.latents is not None and content.latents.encoding is not None),
        making=content.making,
    )


def images_per_shard(images: int, image_bytes: int) -> int:
    """Return how many images a shard has: so many that there are `SHARDS` of them, within the limits."""
    return max(1, min(SHARD_BYTES // image_bytes, max(LEAST_IMAGES, -(-images // SHARDS))))


def _digest(entries: Iterable[Entry]) -> str:
    digest = hashlib.sha256()
    for entry in entries:
        digest.update(repr(tuple(entry)).encode("utf-8", "surrogateescape") + b"\n")
    return digest.hexdigest()


def _versions(encoded: bool) -> dict[str, str]:
    """Return the versions of what decodes and resizes, and of what encodes."""
    libraries = ("libjpeg_turbo", "libtiff", "webp", "avif")
    found = {name: features.version(name) for name in libraries}
    for package in ("diffussm", "Pillow", "numpy", *(("torch", "diffusers") if encoded else ())):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return {name: text for name, text in sorted(found.items()) if text}


def _shards(
    recipe: Recipe, partial: PartialSet, entries: list[Entry], processes: int, group: ProcessGroup
) -> list[FinishedShard]:
    """Return all shards on rank zero."""
    finished: dict[int, FinishedShard] = {}
    for number in range(partial.plan.shards) if group.is_rank_zero else ():
        shard = partial.finished(number)
        if shard is not None and shard.is_as_asked(recipe.skip_broken, recipe.max_pixels):
            finished[number] = shard
    missing = group.broadcast([number for number in range(partial.plan.shards) if number not in finished])
    before = len(entries) - sum(len(partial.plan.images_of(number)) for number in missing)
    progress = Progress("images", len(entries) if group.is_rank_zero else 0)
    progress(before)
    finished |= make_shards_by_ranks(
        recipe, partial, entries, missing, processes, lambda done: progress(before + done), group
    )
    return [finished[number] for number in sorted(finished)]


def _finish(partial: PartialSet, shards: list[FinishedShard], selection: Selection, recipe: Recipe) -> Manifest:
    """Write the rest of the set."""
    broken = [image for shard in shards for image in shard.broken]
    dropped = {image.index for image in broken}
    kept = [entry for index, entry in enumerate(selection.entries) if index not in dropped]
    if not kept:
        raise UserError(f"{recipe.source.path}: all {len(broken):,} images are broken; the first: {broken[0].reason}")
    content = recipe.content
    written = [
        WrittenShard(
            Shard(images=shard.images, arrays={content.array: shard.file}),
            np.frombuffer(bytes.fromhex(shard.image_sha256), dtype=np.uint8).reshape(-1, 32),
        )
        for shard in shards
        if shard.file is not None
    ]
    notes = sum((Counter(shard.notes) for shard in shards), Counter[str]())
    reasons = Counter(f"broken: {image.reason}" for image in broken)
    plan = partial.plan
    return write_manifest(
        partial.set,
        written,
        content=_with_rounding(content, shards),
        labels=np.array([entry.label or 0 for entry in kept], dtype=np.int64),
        classes=plan.classes,
        names=(printable(entry.name) for entry in kept),
        source=Source(
            kind=plan.kind,
            listing_sha256=plan.source,
            taken=len(kept),
            skipped=dict(sorted((Counter(selection.skipped) + reasons).items())),
            notes=dict(sorted(notes.items())),
        ),
        versions=plan.versions,
        broken=[_line(selection.entries[image.index], Broken(image.reason, image.detail)) for image in broken],
    )


def _with_rounding(content: Content, shards: list[FinishedShard]) -> Content:
    """Return the content with the error of float16 over all shards."""
    rounded = [shard.rounding for shard in shards if shard.rounding]
    if content.latents is None or not rounded:
        return content
    errors = [
        Rounding(
            largest=max(part.largest for part in parts),
            rms=math.sqrt(sum(part.squares for part in parts) / sum(part.values for part in parts)),
        )
        for parts in zip(*rounded, strict=True)
    ]
    stated = dict(zip(("mean_rounding", "std_rounding"), errors, strict=False))
    return content._replace(latents=content.latents.model_copy(update=stated))


def _line(entry: Entry, broken: Broken) -> str:
    return f"{printable(entry.name)}\t{broken}"
