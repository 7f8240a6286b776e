"""The images of a shard: read, decoded, brought to their size, written."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from diffussm.data.prepared.writer import Content, write_shard
from diffussm.data.preparing.partial import BrokenImage, FinishedShard, PartialSet, ShardRounding
from diffussm.data.preparing.recipe import Made, Recipe
from diffussm.data.sources.base import Broken, Entry

LARGEST_FLOAT16 = 65504.0


class Collected(NamedTuple):
    """What a shard is made of: what is stored of its images, of latents in float32, and what is known of it."""

    number: int
    items: NDArray[Any]
    broken: tuple[BrokenImage, ...]
    notes: dict[str, int]
    largest: int  # pixels


def collect(
    recipe: Recipe, partial: PartialSet, number: int, entries: Sequence[Entry], count: Callable[[], None]
) -> Collected:
    """Return what the shard of these images is made of; call `count` after each. UserError names a broken image, unless
    these are left out."""
    content = recipe.content
    items = np.empty((len(entries), *content.item_shape), dtype=np.uint8 if content.latents is None else np.float32)
    kept, broken, notes, largest = 0, [], Counter[str](), 0
    for position, (entry, made) in enumerate(zip(entries, recipe.made(entries), strict=True)):
        made = _fitting(made, content)
        if isinstance(made, Broken):
            if not recipe.skip_broken:
                raise recipe.error(entry, made) from None
            index = partial.plan.images_of(number)[position]
            broken.append(BrokenImage(index=index, reason=made.reason, detail=made.detail))
        else:
            items[kept] = made.item
            kept, largest = kept + 1, max(largest, made.pixels)
            notes.update(made.notes)
        count()
    return Collected(number, items[:kept], tuple(broken), dict(sorted(notes.items())), largest)


def write(recipe: Recipe, partial: PartialSet, collected: Collected) -> FinishedShard:
    """Write the shard and return it."""
    number, content = collected.number, recipe.content
    items, rounding = _as_stored(collected.items, content)
    file, hashes, size = None, b"", 0
    if len(items):
        written = write_shard(partial.set, number, items, content.array)
        file, hashes = written.shard.arrays[content.array], written.image_sha256.tobytes()
        size = (partial.set / file.file).stat().st_size
    shard = FinishedShard(
        images=len(items),
        file=file,
        bytes=size,
        image_sha256=hashes.hex(),
        broken=collected.broken,
        notes=collected.notes,
        largest=collected.largest,
        rounding=rounding,
        max_pixels=recipe.max_pixels,
    )
    partial.add(number, shard)
    return shard


def _fitting(made: Made | Broken, content: Content) -> Made | Broken:
    """Return what is stored, or why it cannot be."""
    if isinstance(made, Made) and content.latents is not None and content.latents.dtype == "float16":
        largest = float(np.abs(made.item).max())
        if largest > LARGEST_FLOAT16:
            return Broken("is too large for float16", f"it has a value of {largest:.6g}; --dtype float32 takes it")
    return made


def _as_stored(items: NDArray[Any], content: Content) -> tuple[NDArray[Any], tuple[ShardRounding, ...]]:
    """Return the items in the type in which they are stored, and the error of float16."""
    if content.latents is None or content.latents.dtype == "float32" or not len(items):
        return items, ()
    stored = items.astype(np.float16)
    error = np.abs(items - stored.astype(np.float32))
    parts = (error[:, :, 0], error[:, :, 1]) if content.kind == "mean-std" else (error,)
    return stored, tuple(
        ShardRounding(largest=part.max(), squares=np.square(part, dtype=np.float64).sum(), values=part.size)
        for part in parts
    )
