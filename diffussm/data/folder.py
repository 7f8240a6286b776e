"""A folder of photographs as images of one size, through the transform that ADM and DiT train and are measured with.

RGB; the box filter halves while the shorter side is twice the size or more; bicubic interpolation brings that side to
the size; the centre is cut out (guided-diffusion, `image_datasets.py`). The EXIF orientation is ignored.
"""

import copy
import functools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diffussm.data.pixels.base import Shape, pixels_sha256, spans
from diffussm.data.pixels.decode import decoded, read_image
from diffussm.data.pixels.listing import Listing
from diffussm.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_FORMATS = ["JPEG", "PNG", "WEBP", "BMP"]  # whatever the suffix: ImageNet has a PNG named .JPEG


class CentreCropped:
    """Photographs of `root` and its subfolders, in the order of their relative paths, as `Pixels` (3, size, size).

    They are decoded when they are read. UserError if the folder is missing or has no photographs, or for a file that
    cannot be decoded.
    """

    def __init__(self, root: Path, size: int):
        if size < 1:
            raise ValueError(f"size {size}: at least 1")
        self.root = root
        self.listing = photographs(root)
        self.files = self.listing.files  # relative
        self.count = len(self.files)
        self.shape: Shape = (3, size, size)
        self.transform = f"centre-crop {size}"

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
        return centre_cropped(read_image(self.root / file, _FORMATS), self.shape[1])


def photographs(root: Path) -> Listing:
    """Return the photographs by relative paths, sorted as text with "/" between names, and what was left out.

    Links are followed unless they form a cycle. Hidden files and the content of hidden folders are left out."""
    if not root.is_dir():
        raise UserError(f"{root}: no such folder")
    found = Listing(SUFFIXES)
    for walked, subfolders, files in os.walk(root, onerror=_raise, followlinks=True):
        folder = Path(walked)
        ancestors = {ancestor.resolve() for ancestor in (folder, *folder.parents)}
        subfolders[:] = [name for name in subfolders if (folder / name).resolve() not in ancestors]
        relative = folder.relative_to(root)
        hidden = any(part.startswith(".") for part in relative.parts)
        for name in files:
            found.add(folder, name, (relative / name).as_posix(), hidden)
    if not found.files:
        raise UserError(f"{root}: holds no photographs ({' '.join(SUFFIXES)}), nor do its subfolders; {found}")
    found.files.sort()
    return found


def centre_cropped(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """Return the image, (3, size, size), after this module's transform."""
    image = image.convert("RGB")
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = size / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    image = image.crop((left, top, left + size, top + size))
    return np.asarray(image).transpose(2, 0, 1)


def _raise(error: OSError) -> None:
    raise error
