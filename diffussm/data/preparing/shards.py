"""The images of a shard: read, decoded, brought to their size, written."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diffussm.data.prepared.writer import write_shard
from diffussm.data.preparing.partial import BrokenImage, FinishedShard, PartialSet
from diffussm.data.sources.base import Broken, Entry, Source
from diffussm.data.sources.image_file import HUGE, decode
from diffussm.data.transforms import TRANSFORMS, CannotTransform, as_array, in_channels
from diffussm.errors import UserError


@dataclass(frozen=True)
class Recipe:
    """How an image of a source becomes one of the data set."""

    source: Source
    transform: str
    channels: int
    image_size: int
    max_pixels: int
    skip_broken: bool

    def image(self, entry: Entry) -> tuple[NDArray[np.uint8], tuple[str, ...], int]:
        """Return the pixels (C, H, W), notes, and the number of pixels before; raise Broken if it cannot be used."""
        content = self.source.read(entry)
        if isinstance(content, bytes):
            image, notes = decode(content, self.max_pixels)
        else:
            image, notes = Image.fromarray(content.squeeze(-1) if content.shape[-1] == 1 else content), ()
        if self.channels == 1 and image.mode not in ("1", "L", "LA"):
            notes = (*notes, "colour to grey")
        elif self.channels == 3 and image.mode in ("1", "L", "LA"):
            notes = (*notes, "grey to colour")
        if min(image.size) < self.image_size:
            notes = (*notes, "enlarged")
        try:
            pixels = as_array(TRANSFORMS[self.transform](in_channels(image, self.channels), self.image_size))
        except CannotTransform as error:
            raise Broken("does not fit", str(error)) from None
        return pixels, notes, image.width * image.height

    def error(self, entry: Entry, broken: Broken) -> UserError:
        hint = "--max-pixels N allows more, " if broken.reason == HUGE else ""
        return UserError(f"{self.source.naming(entry)}: {broken}; {hint}--skip-broken leaves out such images")


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
