"""A folder of photographs as images of one size, through the transform that ADM and DiT train and are measured with.

They are listed and decoded as for prepared data sets; the EXIF orientation is ignored.
"""

import copy
import functools
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diffussm.data.pixels.base import Shape, pixels_sha256, spans
from diffussm.data.pixels.decode import decoded
from diffussm.data.sources.base import Broken, Entry
from diffussm.data.sources.folder import ImageFolder, image_files
from diffussm.data.sources.image_file import decode
from diffussm.data.transforms import CENTRE_CROP, CannotTransform, as_array, centre_cropped, described, in_channels
from diffussm.errors import UserError


class CentreCropped:
    """Photographs of `root` and its subfolders, in the order of their relative paths, as `Pixels` (3, size, size).

    They are decoded when they are read. UserError if the folder is missing or has no photographs, or for a file that
    cannot be decoded.
    """

    def __init__(self, root: Path, size: int):
        if size < 1:
            raise ValueError(f"size {size}: at least 1")
        self.root = root
        self.listing = image_files(root)
        self.files = self.listing.files  # relative
        self.count = len(self.files)
        self.shape: Shape = (3, size, size)
        self.transform = described(CENTRE_CROP, size)

    def subset(self, indices: Iterable[int]) -> "CentreCropped":
        """Return these images alone, in their present order; ValueError if an index is repeated or outside
        0 .. count - 1."""
        wanted = sorted(indices)
        if not wanted or len(set(wanted)) != len(wanted) or not 0 <= wanted[0] <= wanted[-1] < self.count:
            raise ValueError(f"indices must be different ones of 0 .. {self.count - 1}, at least one")
        subset = copy.copy(self)
        subset.__dict__.pop("sha256", None)
        subset.files = [self.files[i] for i in wanted]
        subset.count = len(wanted)
        return subset

    def batches(self, size: int, start: int = 0, stop: int | None = None) -> Iterator[NDArray[np.uint8]]:
        yield from decoded(self.files, self._image, spans(self.count, size, start, stop))

    @functools.cached_property
    def sha256(self) -> str:
        """Return the SHA-256 of all transformed pixels (N, 3, size, size) in order; it decodes every image once."""
        return pixels_sha256(self)

    def _image(self, file: str) -> NDArray[np.uint8]:
        source, entry = ImageFolder(self.root), Entry(file, 0)
        try:
            image = decode(source.read(entry)).image
            return as_array(centre_cropped(in_channels(image, 3), self.shape[1]))
        except (Broken, CannotTransform) as error:
            raise UserError(f"{source.naming(entry)}: {error}") from None
