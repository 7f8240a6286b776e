"""Image files decoded, many at once. Whatever is wrong with one is a UserError that names it."""

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diffussm.errors import UserError

Source = TypeVar("Source")

_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"


def decoded(
    files: Sequence[Source], decode: Callable[[Source], NDArray[np.uint8]], wanted: Iterable[tuple[int, int]]
) -> Iterator[NDArray[np.uint8]]:
    """Batches of `files` first .. last - 1, each decoded by threads: PIL lets go of the interpreter."""
    with ThreadPoolExecutor() as pool:
        for first, last in wanted:
            yield np.stack(list(pool.map(decode, files[first:last])))


def read_image(file: Path, formats: list[str]) -> Image.Image:
    """Loaded from a file in one of PIL's `formats`; UserError naming it: unreadable, damaged or 16 bits deep."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from None
    try:
        image: Image.Image = Image.open(io.BytesIO(content), formats=formats)
        if png := image.format == "PNG":
            image.verify()  # the CRCs, which decoding leaves alone
            content.index(_PNG_END)
            image = Image.open(io.BytesIO(content), formats=formats)
        image.load()
    except Exception:  # what PIL raises of a spoiled file is anything
        raise UserError(f"{file}: is damaged or not {', '.join(formats)}") from None
    if png and content[24] == 16:  # in IHDR; PIL clips such grey and drops the lower bits of such colours
        raise UserError(f"{file}: has 16 bits a channel; allowed: 8")
    return image
