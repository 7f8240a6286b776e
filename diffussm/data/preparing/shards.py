"""The images of a shard: read, decoded, brought to their size, written."""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from diffussm.data.prepared.writer import write_shard
from diffussm.data.preparing.partial import BrokenImage, FinishedShard, PartialSet
from diffussm.data.preparing.recipe import Recipe
from diffussm.data.sources.base import Broken, Entry


def make_shard(
    recipe: Recipe, partial: PartialSet, number: int, entries: Sequence[Entry], count: Callable[[], None]
) -> FinishedShard:
    """Make the shard of these images and return it; call `count` after each. UserError names a broken image, unless
    these are left out."""
    side = recipe.image_size
    pixels = np.empty((len(entries), recipe.channels, side, side), dtype=np.uint8)
    kept, broken, notes, largest = 0, [], Counter[str](), 0
    for position, entry in enumerate(entries):
        try:
            pixels[kept], found, size = recipe.image(entry)
        except Broken as reason:
            if not recipe.skip_broken:
                raise recipe.error(entry, reason) from None
            index = number * partial.plan.images_per_shard + position
            broken.append(BrokenImage(index=index, reason=reason.reason, detail=reason.detail))
        else:
            kept, largest = kept + 1, max(largest, size)
            notes.update(found)
        count()
    file, hashes, size = None, b"", 0
    if kept:
        written = write_shard(partial.set, number, pixels[:kept])
        file, hashes = written.shard.arrays["pixels"], written.image_sha256.tobytes()
        size = (partial.set / file.file).stat().st_size
    shard = FinishedShard(
        images=kept,
        file=file,
        bytes=size,
        image_sha256=hashes.hex(),
        broken=tuple(broken),
        notes=dict(sorted(notes.items())),
        largest=largest,
        max_pixels=recipe.max_pixels,
    )
    partial.add(number, shard)
    return shard
