"""Decoding of image files, many at once. Any problem with a file is a UserError that names it."""

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
    files: Sequence[Source], decode: Callable[[Source], NDArray[np.uint8]], spans: Iterable[tuple[int, int]]
) -> Iterator[NDArray[np.uint8]]:
    """Yield the batches `files[first:last]`, decoded; threads decode in parallel, since PIL releases the GIL."""
    with ThreadPoolExecutor() as pool:
        for first, last in spans:
            yield np.stack(list(pool.map(decode, files[first:last])))


def read_image(file: Path, formats: list[str]) -> Image.Image:
    """Return the image in a file of one of PIL's `formats`; raise UserError if it is unreadable, damaged or 16 bits
    deep."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from None
    try:
        image: Image.Image = Image.open(io.BytesIO(content), formats=formats)
        if png := image.format == "PNG":
            image.verify()  # checks the CRCs, which decoding does not
            content.index(_PNG_END)
            image = Image.open(io.BytesIO(content), formats=formats)
        image.load()
    except Exception:  # PIL may raise any exception on a damaged file
        raise UserError(f"{file}: is damaged or not {', '.join(formats)}") from None
    if png and content[24] == 16:  # in IHDR; PIL clips such grey and drops the lower bits of such colours
        raise UserError(f"{file}: has 16 bits a channel; allowed: 8")
    return image
