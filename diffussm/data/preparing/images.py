"""The images of a source at one size, without a prepared data set."""

import copy
import functools
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diffussm.data.pixels.base import Shape, pixels_sha256, spans
from diffussm.data.pixels.decode import decoded
from diffussm.data.preparing.recipe import Options, image_recipe
from diffussm.data.sources.base import Broken, Entry, check_classes
from diffussm.data.sources.detect import open_source
from diffussm.errors import UserError


class SourceImages:
    """The images of the source at `path` in its order, as `Pixels`: those that a prepared data set of it has.

    They are decoded when they are read. UserError for a source that cannot be listed, for one of images of any size
    without `image_size`, and for a broken image.
    """

    def __init__(self, path: Path, options: Options):
        source = open_source(path, labelled=False)
        found = source.listed()
        check_classes(found)
        self.entries, self.classes, self.skipped = found.entries, found.classes, found.skipped
        self._recipe = image_recipe(source, self.entries, options)
        self.count = len(self.entries)
        self.shape: Shape = self._recipe.content.shape
        self.transform = self._recipe.content.transform

    def subset(self, indices: Iterable[int]) -> "SourceImages":
        """Return these images alone, in their present order; ValueError if an index is repeated or outside
        0 .. count - 1."""
        wanted = sorted(indices)
        if not wanted or len(set(wanted)) != len(wanted) or not 0 <= wanted[0] <= wanted[-1] < self.count:
            raise ValueError(f"indices must be different ones of 0 .. {self.count - 1}, at least one")
        subset = copy.copy(self)
        subset.__dict__.pop("sha256", None)
        subset.entries = [self.entries[i] for i in wanted]
        subset.count = len(wanted)
        return subset

    def batches(self, size: int, start: int = 0, stop: int | None = None) -> Iterator[NDArray[np.uint8]]:
        yield from decoded(self.entries, self._image, spans(self.count, size, start, stop))

    @functools.cached_property
    def sha256(self) -> str:
        """Return the SHA-256 of all pixels (N, C, H, W) in order; it decodes every image once."""
        return pixels_sha256(self)

    def _image(self, entry: Entry) -> NDArray[np.uint8]:
        try:
            return self._recipe.image(entry).item
        except Broken as error:
            raise UserError(f"{self._recipe.source.naming(entry)}: {error}") from None
